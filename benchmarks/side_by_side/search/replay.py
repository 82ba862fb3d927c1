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
from unittest import mock

import optuna

from benchmarks.side_by_side.search.searches import Way, replayed
from benchmarks.side_by_side.search.surface import Surface, read_surface
from prefetch_tuning.pipelines.cores import usable_cores

SEEDS = 10
TRIALS, SECONDS = (5, 10, 20, 40), (10.0, 20.0, 40.0)
# A way has arrived when the best of its trials is this near to the best.
NEAR = 0.05
# After each trial, the seconds so far and the regret.
Run = list[tuple[float, float]]
# In a process of the pool: the surface and the ways to search on it.
_PREPARED: list[tuple[Surface, dict[str, Callable[[int], Way]]]] = []


def regrets(way: Way, surface: Surface, trials: int) -> Run:
    """After each trial: the seconds so far, and how far the best one's true rate is from the best.

    The best trial is the one with the highest measured rate, so a lucky one may hide a better one.
    """
    found: Run = []
    seconds, best, chosen = way.begins_s, 0.0, 0.0
    for config, rate, trial_s in way:
        seconds += trial_s
        if rate > best:
            best, chosen = rate, surface.rate(config)
        found.append((seconds, max(1.0 - chosen / surface.best, 0.0)))
        if len(found) == trials:
            return found
    return found


def after_seconds(run: Run, seconds: float) -> float:
    """The regret after so many seconds; 1 before the first trial."""
    return next((regret for at, regret in reversed(run) if at <= seconds), 1.0)


def arrived(run: Run) -> int | None:
    """The number of trials after which the regret stays within `NEAR`; None if it never does."""
    far = [number for number, (_, regret) in enumerate(run, start=1) if regret > NEAR]
    last = far[-1] if far else 0
    return last + 1 if last < len(run) else None


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
    """Median regret over the seeds, as a Markdown table."""
    heads = [*(f"{n} trials" for n in TRIALS), *(f"{s:.0f} s" for s in SECONDS), "trials to 5%"]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for name, runs in runs_of.items():
        cells = [f"{statistics.median(run[n - 1][1] for run in runs):.1%}" for n in TRIALS]
        cells += [f"{statistics.median(after_seconds(r, s) for r in runs):.1%}" for s in SECONDS]
        ends = [arrived(run) or max(TRIALS) + 1 for run in runs]
        middle = statistics.median(ends)
        cells.append(f"{middle:.0f}" if middle <= max(TRIALS) else "never")
        yield f"| {name} | {' | '.join(cells)} |"


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
