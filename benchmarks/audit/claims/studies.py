"""Checks that whole studies find what was planted; separate rounds judge their claims."""

from __future__ import annotations

from functools import partial

from benchmarks.audit import judging
from benchmarks.audit.access import NotMeasuredError, Studied
from benchmarks.audit.ground import PLANTED, SHARED_CORES, AuditBench, Ground
from benchmarks.audit.judging import Line, State, judge
from benchmarks.audit.parts import part
from benchmarks.bench import Rates, paired
from prefetch_tuning.pipelines.config import PipelineConfig

STUDIES, ROUNDS = 3, 15
NEAR = 0.9
# The ratio to AUTOTUNE that a recommendation must be proven to reach, if that much is planted.
GAINS = {"blocking_map": 5.0, "shared_cores": 1.25}
COPIED_SHARDS = "benchmarks.audit.claims.known:CopiedShards"
REPEATED, REPEATS, MOST_CV = "blocking_map", 5, 0.10

TARGETS = {**PLANTED, "shared_cores": SHARED_CORES}


def whole_studies(bench: AuditBench, name: str) -> list[Line]:
    """Compares the recommendations of default studies with the grid's best and with AUTOTUNE."""
    ground = bench.ground(TARGETS[name])
    truth = bench.truth(name)
    numbers = range(1, STUDIES + 1)
    studies = {f"study-{n}": bench.study(name, ground.info.target, n) for n in numbers}
    configs = {
        study: studied.recommended for study, studied in studies.items() if studied.recommended
    }
    rounds = bench.rounds(
        f"rounds/{name}",
        ground.info.target,
        {**configs, "truth": truth.config, "autotune": ground.autotune},
        ROUNDS,
    )
    lines: list[Line] = []
    doubt = bench.doubt(truth, ground)
    for study in studies:
        lines.append(
            _beside(ground, study, configs, rounds, "truth", NEAR, "the grid's best", doubt)
        )
        if name in GAINS:
            found = _beside(ground, study, configs, rounds, "autotune", GAINS[name], "AUTOTUNE")
            lines.append(found)
    return [*lines, fractions_line(ground.info.name, ground.info.summary, list(studies.values()))]


for _name in TARGETS:
    part(f"studies_{_name}", full=True)(partial(whole_studies, name=_name))


@part("copied_shards", full=True)
def copied_shards(bench: AuditBench) -> list[Line]:
    """Checks that shards which are copies of each other don't count as a gain."""
    ground = bench.ground(COPIED_SHARDS)
    found = bench.study("copied_shards", COPIED_SHARDS, 1).recommended
    if found is None:
        raise NotMeasuredError("copied_shards: nothing was recommended")
    return [
        Line(
            name="copied shards",
            planted=ground.info.summary,
            expected="no processes are recommended",
            measured=str(found),
            state="fails" if found.generator_workers else "holds",
        )
    ]


@part("limit_repeats", full=True)
def limit_repeats(bench: AuditBench) -> list[Line]:
    """Checks that every study of a pipeline finds the same limit, since it is the pipeline's."""
    target = TARGETS[REPEATED]
    ground = bench.ground(target)
    numbers = range(1, REPEATS + 1)
    limits = [bench.study(REPEATED, target, number).limit for number in numbers]
    return [repeats_line(ground.info.summary, [limit for limit in limits if limit is not None])]


def repeats_line(planted: str, limits: list[float]) -> Line:
    """How much the limits of several studies of one pipeline differ.

    Args:
        planted: what was planted, in words.
        limits: in examples/s, one per study that has a limit.
    """
    found = judging.spread(limits)
    said = " ".join(f"{limit:,.0f}" for limit in limits)
    return Line(
        name=f"{REPEATED.replace('_', ' ')}, limit of {len(limits)} studies",
        planted=planted,
        expected=f"a CV under {MOST_CV:.0%}",
        measured=f"{found.text('{:.1%}')}: {said} examples/s",
        state=judge(found, high=MOST_CV) if len(limits) == REPEATS else "fails",
    )


def fractions_line(name: str, planted: str, studies: list[Studied]) -> Line:
    """Checks that no candidate of any study is proven to be faster than the limit.

    Args:
        name: the pipeline's name.
        planted: what was planted, in words.
        studies: the studies whose candidates are checked.
    """
    found = [judging.widened(f.value, f.ci) for study in studies for f in study.fractions]
    highest = max(found, key=lambda estimate: estimate.interval.low, default=None)
    # An estimate above 1 whose interval reaches below 1 can be noise around a candidate at 1.
    state: State = "fails"
    if highest is not None and highest.interval.low <= 1.0:
        state = "holds"
    return Line(
        name=f"{name.replace('_', ' ')}, limit",
        planted=planted,
        expected="no candidate is proven faster than the limit",
        measured="no fraction was measured" if highest is None else highest.text("{:.2f}"),
        state=state,
    )


def _beside(
    ground: Ground,
    study: str,
    configs: dict[str, PipelineConfig],
    rounds: list[Rates],
    baseline: str,
    low: float,
    of: str,
    doubt: str = "",
) -> Line:
    """Compares a study's recommendation with a baseline; a gain over AUTOTUNE must be proven."""
    proven = baseline == "autotune"
    measured, state = "nothing was recommended", "fails"
    if study in configs:
        below, above = paired(rounds, baseline, study)
        measured = f"no round was complete: {configs[study]}"
        if below:
            found = judging.ratio(below, above)
            measured = f"{found.text()}: {configs[study]}{doubt}"
            state = judging.doubted(judge(found, low=low, proven=proven), doubt)
    return Line(
        name=f"{ground.info.name.replace('_', ' ')}, {study.replace('-', ' ')}",
        planted=ground.info.summary,
        expected=f"{'proven ' if proven else ''}at least {low:g}x {of}",
        measured=measured,
        state=state,
    )
