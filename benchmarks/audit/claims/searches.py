"""Checks that a search's first trials find what was planted, in short runs against grids."""

from __future__ import annotations

from functools import partial

from benchmarks.audit import judging
from benchmarks.audit.ground import PLANTED, SHARED_CORES, AuditBench, Ground
from benchmarks.audit.judging import Line, judge
from benchmarks.audit.parts import part
from benchmarks.bench import paired
from prefetch_tuning.experiments.search.diagnosis import producer_s

GUESSES, ROUNDS = 2, 7
# The share of the grid's best. Telling closer rates apart takes more rounds than anyone waits for.
NEAR = 0.9
SHARED_GAIN = 1.25


def first_trials(bench: AuditBench, name: str) -> list[Line]:
    """Compares the better of the two best first trials with the best configuration of the grid."""
    truth = bench.truth(name)
    ground = bench.ground(PLANTED[name])
    guesses = bench.best_guesses(name, ground, GUESSES)
    configs = {**guesses, "truth": truth.config}
    rounds = bench.rounds(name, ground.info.target, configs, ROUNDS)
    below, *above = paired(rounds, "truth", *guesses)
    if not below:
        expected = f"at least {NEAR}x the grid's best"
        return [_line(ground, expected, "no round was complete", "fails")]
    found = judging.ratio(below, *above)
    doubt = bench.doubt(truth, ground)
    measured = f"{found.text()}, diagnosed as {_diagnosed(ground)}{doubt}"
    state = judging.doubted(judge(found, low=NEAR), doubt)
    return [_line(ground, f"at least {NEAR}x the grid's best", measured, state)]


for _name in PLANTED:
    part(_name)(partial(first_trials, name=_name))


@part("shared_cores")
def shared_cores(bench: AuditBench) -> list[Line]:
    """Checks that the search changes the structure although a step takes as long as a batch."""
    ground = bench.ground(SHARED_CORES)
    costs = ground.diagnosis.costs
    size = costs.batch_size
    times = (
        f"step {1e3 * costs.step_s[size]:.1f} ms, "
        f"making a batch {1e3 * size * producer_s(costs):.1f} ms"
    )
    bound = ground.diagnosis.bottleneck == "step-bound"
    diagnosis = _line(
        ground,
        "not diagnosed as step-bound",
        f"{_diagnosed(ground)}: {times}",
        "fails" if bound else "holds",
    )
    guesses = bench.best_guesses("shared_cores", ground, GUESSES)
    configs = {**guesses, "autotune": ground.autotune}
    rounds = bench.rounds("shared_cores", ground.info.target, configs, ROUNDS)
    below, *above = paired(rounds, "autotune", *guesses)
    expected = f"first trials at least {SHARED_GAIN}x AUTOTUNE"
    if not below:
        return [diagnosis, _line(ground, expected, "no round was complete", "fails")]
    found = judging.ratio(below, *above)
    state = judge(found, low=SHARED_GAIN)
    return [diagnosis, _line(ground, expected, found.text(), state)]


def _diagnosed(ground: Ground) -> str:
    return f"{ground.diagnosis.bottleneck} ({ground.diagnosis.stage})"


def _line(ground: Ground, expected: str, measured: str, state: judging.State) -> Line:
    return Line(
        name=ground.info.name.replace("_", " "),
        planted=ground.info.summary,
        expected=expected,
        measured=measured,
        state=state,
    )
