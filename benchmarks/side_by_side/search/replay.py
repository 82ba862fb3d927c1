"""Replays grids: how far each way to search is from the best after so many trials and seconds.

Run from the checkout: .venv/bin/python -m benchmarks.side_by_side.search.replay GRID.jsonl [...]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import optuna

from benchmarks.side_by_side.search.searches import Way, replayed
from benchmarks.side_by_side.search.surface import Surface, read_surface
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores

SEEDS = 10
TRIALS, SECONDS = (5, 10, 20, 40), (10.0, 20.0, 40.0)
# A way has arrived when what it would choose is this near to the best.
NEAR = 0.05
# So many of a search's best are measured again in a study's confirmation, or one more.
CONFIRMED = 2


class After(NamedTuple):
    """Where a search is after a trial.

    Attributes:
        seconds: since it began.
        regret: how far the true rate of the best trial is from the best, as a share.
        confirmed: the same for the better one of the best two, as a confirmation would find it.
    """

    seconds: float
    regret: float
    confirmed: float


Run = list[After]
# In a process of the pool: the surface and the ways to search on it.
_PREPARED: list[tuple[Surface, dict[str, Callable[[int], Way]]]] = []


def regrets(way: Way, surface: Surface, trials: int) -> Run:
    """Where a search is after each of its trials.

    The best trial is the one with the highest measured rate, so a lucky one may hide a better one.
    """
    found: Run = []
    seconds, measured = way.begins_s, dict[PipelineConfig, float]()
    for config, rate, trial_s in way:
        seconds += trial_s
        if rate > 0.0:  # it neither failed nor was pruned
            measured[config] = max(rate, measured.get(config, 0.0))
        best = sorted(measured, key=lambda one: measured[one], reverse=True)[:CONFIRMED]
        shares = [surface.rate(one) / surface.best for one in best] or [0.0]
        found.append(After(seconds, max(1.0 - shares[0], 0.0), max(1.0 - max(shares), 0.0)))
        if len(found) == trials:
            return found
    return found


def after_seconds(run: Run, seconds: float) -> float:
    """The regret after so many seconds; 1 before the first trial."""
    return next((after.regret for after in reversed(run) if after.seconds <= seconds), 1.0)


def arrived(regrets: Sequence[float]) -> int | None:
    """The number of trials after which regrets stay within `NEAR`; None if they never do."""
    far = [number for number, regret in enumerate(regrets, start=1) if regret > NEAR]
    last = far[-1] if far else 0
    return last + 1 if last < len(regrets) else None


def all_regrets(grid: Path, cores: float, seeds: int) -> dict[str, list[Run]]:
    """What `regrets` gives for every way and seed, on all cores at once."""
    names = list(replayed(read_surface(grid, cores), cores))
    many = multiprocessing.get_context("spawn")
    one_core = mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})
    with one_core, ProcessPoolExecutor(int(cores) or 1, many, _prepare, (grid, cores)) as pool:
        found = {name: [pool.submit(_one, name, seed) for seed in range(seeds)] for name in names}
        return {name: [run.result() for run in runs] for name, runs in found.items()}


def _prepare(grid: Path, cores: float) -> None:
    """Reads the grid once in each process of the pool."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _PREPARED.append((surface := read_surface(grid, cores), replayed(surface, cores)))


def _one(name: str, seed: int) -> Run:
    surface, ways = _PREPARED[0]
    return regrets(ways[name](seed), surface, max(TRIALS))


def table(runs_of: Mapping[str, Sequence[Run]]) -> Iterator[str]:
    """Medians over the seeds, as a Markdown table."""
    heads = [*(f"{n} trials" for n in TRIALS), *(f"{s:.0f} s" for s in SECONDS)]
    heads += ["trials to 5%", "of the best two"]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for name, runs in runs_of.items():
        cells = [f"{statistics.median(run[n - 1].regret for run in runs):.1%}" for n in TRIALS]
        cells += [f"{statistics.median(after_seconds(r, s) for r in runs):.1%}" for s in SECONDS]
        cells.append(_arrival([[after.regret for after in run] for run in runs]))
        cells.append(_arrival([[after.confirmed for after in run] for run in runs]))
        yield f"| {name} | {' | '.join(cells)} |"


def _arrival(runs: Sequence[Sequence[float]]) -> str:
    """The median number of trials until a search is near the best, and stays there."""
    middle = statistics.median(arrived(run) or max(TRIALS) + 1 for run in runs)
    return f"{middle:.0f}" if middle <= max(TRIALS) else f"over {max(TRIALS)}"


def main() -> int:
    """Prints a table for each grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("grids", nargs="+", type=Path, help="files that benchmarks/grid.py wrote")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    for file in options.grids:
        surface = read_surface(file, usable_cores())
        print(f"{file.stem}: noise {surface.noise:.1%}, best {surface.best:,.0f} examples/s\n")
        runs = all_regrets(file, usable_cores(), options.seeds)
        print("\n".join([*table(runs), ""]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
