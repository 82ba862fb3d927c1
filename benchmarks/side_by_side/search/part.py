"""Our search beside others: on grids, replayed with their noise, and for real."""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import grid
from benchmarks.audit.truths import collected
from benchmarks.bench import say
from benchmarks.journal import JournalError, read
from benchmarks.side_by_side.search.replay import SEEDS, all_regrets, table
from benchmarks.side_by_side.search.searches import OTHERS, Measure, Tried, Way, rule_of_thumb
from benchmarks.side_by_side.search.surface import Surface, read_surface
from benchmarks.side_by_side.stand import NoResultError, Stand
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores

# A map that waits, a map that computes, and a generator that computes.
PIPELINES = {
    "blocking_map": "benchmarks.audit.planted:BlockingMap",
    "image": "image",
    "noisy": "noisy",
}
QUICK_PIPELINES = ("blocking_map",)
AXES = ("all", "basic")
# Points, step of the ranges, and whether rounds follow, by axes. The best of all axes is what
# recommendations are compared with. The basic axes are only replayed.
GRIDS: dict[str, dict[str, Any]] = {
    "all": {"points": 200, "step": 2.0, "points_only": False},
    "basic": {"points": 100, "step": 1.4, "points_only": True},
}
OF_GRIDS = {"reference_every": 4, "rounds_of_ten": 5, "rounds_of_three": 15}
QUICK_GRID = {"points": 8, "rounds_of_ten": 1, "rounds_of_three": 2}
REAL_SEEDS, REAL_TRIALS, CHOICE_ROUNDS, ROUNDS = 3, 20, 3, 15
OURS, BEST, THUMB = "ours", "the grid's best", "rule of thumb"
REPLAYS, REAL, BESIDE_THE_BEST = "replays", "real", "beside the best"
NEAR, SURE = 0.95, 1.0


def measure(stand: Stand) -> None:
    """Measures what the journal doesn't have yet.

    Raises:
        NoResultError: a pipeline has no result; all others were measured.
    """
    names, missing = QUICK_PIPELINES if stand.quick else tuple(PIPELINES), []
    for name in names:
        try:
            for axes in AXES[:1] if stand.quick else AXES:
                _replay(stand, name, axes)
            _search(stand, name)
        except (NoResultError, JournalError) as error:
            say(f"{name}: {error}")
            missing.append(f"{name}: {error}")
    if missing:
        raise NoResultError("; ".join(missing))


def _replay(stand: Stand, name: str, axes: str) -> None:
    """Measures a grid, then replays every search on it."""
    path, key = _grid(stand, name, axes), f"{name}/{axes}"
    if stand.journal.find(REPLAYS, key) is not None:
        return
    surface, seeds = read_surface(path, usable_cores()), 1 if stand.quick else SEEDS
    rows = list(table(all_regrets(path, usable_cores(), seeds)))
    facts = {
        "seeds": seeds,
        "noise": surface.noise,
        "best": surface.best,
        "searched": surface.space.described,
        "left_out": surface.left_out,
    }
    stand.journal.add(REPLAYS, key, rows=rows, points=GRIDS[axes]["points"], **facts)


def _grid(stand: Stand, name: str, axes: str) -> Path:
    """The file of a finished grid."""
    path = stand.folder / f"{name}-{axes}.jsonl"
    settings = {**OF_GRIDS, **GRIDS[axes], **(QUICK_GRID if stand.quick else {})}
    options = Namespace(
        pipeline=PIPELINES[name], axes=axes, out=path, batch_size=None, seed=0, **settings
    )
    grid.measure(options, stand.runner)
    if not (read(path)[0].get("costs")):
        path.unlink()  # its header can't change, so it would fail again
        raise NoResultError(f"the stages of {name} could not be measured, so it has no grid")
    return path


def _search(stand: Stand, name: str) -> None:
    """Searches for real, then measures what was chosen in rounds that chose nothing."""
    path = stand.folder / f"{name}-all.jsonl"
    surface, truth = read_surface(path, usable_cores()), collected(path)[1]
    target, size = catalog.resolve(PIPELINES[name]), truth.config.batch_size
    seeds = range(1 if stand.quick else REAL_SEEDS)
    chosen: dict[str, PipelineConfig] = {BEST: truth.config}
    for seed in seeds:
        for way in _shuffled([OURS, *OTHERS], seed):
            line = stand.journal.find(REAL, f"{name}/{way}/{seed}")
            if line is None:
                say(f"{name}: {way}, seed {seed}")
                tried = _tried(stand, name, way, seed, surface)
                line = stand.journal.add(REAL, f"{name}/{way}/{seed}", tried=tried)
            best = max(line["tried"], key=lambda one: one[1])
            chosen[f"{way} {seed}"] = PipelineConfig.model_validate(best[0])
    chosen[THUMB] = rule_of_thumb(surface.space, usable_cores())
    few = 2 if stand.quick else CHOICE_ROUNDS
    stand.bench.rounds(f"choices/{name}", target, chosen, few)
    ours = stand.recommended(f"{stand.journal.path.stem}-{name}", target, size)
    pair = {OURS: ours, BEST: truth.config}
    stand.bench.rounds(f"{BESIDE_THE_BEST}/{name}", target, pair, 2 if stand.quick else ROUNDS)


def _tried(stand: Stand, name: str, way: str, seed: int, surface: Surface) -> list[Tried]:
    """The trials of one search, each with the seconds from the search's beginning to its end."""
    target, size = catalog.resolve(PIPELINES[name]), surface.space.batch_sizes[0]
    trials = 3 if stand.quick else REAL_TRIALS
    if way == OURS:
        study = f"{stand.journal.path.stem}-{name}-search-{seed}"
        record = stand.study(study, target, size, seed=seed, trials=trials, rounds=0)
        return _of_study(record, stand.spent_s(study))
    made = OTHERS[way](surface.space, _measured(stand, target), seed)
    return _ended(made, trials)


def _of_study(record: StudyRecord, seconds: float) -> list[Tried]:
    """A study's trials; its seconds are spread over them, the diagnosis included."""
    each = seconds / max(len(record.trials), 1)
    rates = [row.measured.examples_per_s if row.measured else 0.0 for row in record.trials]
    return [
        (row.config, rate if row.state == "complete" else 0.0, each * number)
        for number, (row, rate) in enumerate(zip(record.trials, rates, strict=True), start=1)
    ]


def _measured(stand: Stand, target: str) -> Measure:
    """Measures a configuration as a trial of a study does."""

    def measure_one(config: PipelineConfig) -> tuple[float, float]:
        begin = time.monotonic()
        found = stand.runner.measure(TrialSpec(pipeline=target, config=config))
        rate = 0.0 if isinstance(found, TrialFailure) else found.examples_per_s
        return rate, time.monotonic() - begin

    return measure_one


def _ended(way: Way, trials: int) -> list[Tried]:
    begin = time.monotonic()
    return [
        (config, rate, time.monotonic() - begin) for config, rate, _ in islice(iter(way), trials)
    ]


def _shuffled(ways: Sequence[str], seed: int) -> list[str]:
    order = list(ways)
    random.Random(seed).shuffle(order)  # noqa: S311
    return order
