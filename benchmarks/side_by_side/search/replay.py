"""Replays grids: how far each way to search is from the best after so many trials and seconds.

Run from the checkout: .venv/bin/python -m benchmarks.side_by_side.search.replay GRID.jsonl [...]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import optuna

from benchmarks.side_by_side.search.searches import Way, replayed
from benchmarks.side_by_side.search.surface import Surface, read_surface
from prefetch_tuning.objectives.machine.cores import usable_cores

SEEDS = 10
TRIALS, SECONDS = (5, 10, 20, 40), (10.0, 20.0, 40.0)
# A way has arrived when the best of its trials is this near to the best.
NEAR = 0.05


def regrets(way: Way, surface: Surface, trials: int) -> list[tuple[float, float]]:
    """After each trial: the seconds so far, and how far the best one's true rate is from the best.

    The best trial is the one with the highest measured rate, so a lucky one may hide a better one.
    """
    found: list[tuple[float, float]] = []
    seconds, best, chosen = way.begins_s, 0.0, 0.0
    for config, rate, trial_s in way:
        seconds += trial_s
        if rate > best:
            best, chosen = rate, surface.rate(config)
        found.append((seconds, max(1.0 - chosen / surface.best, 0.0)))
        if len(found) == trials:
            return found
    return found


def after_seconds(run: Sequence[tuple[float, float]], seconds: float) -> float:
    """The regret after so many seconds; 1 before the first trial."""
    return next((regret for at, regret in reversed(run) if at <= seconds), 1.0)


def arrived(run: Sequence[tuple[float, float]]) -> int | None:
    """The number of trials after which the regret stays within `NEAR`; None if it never does."""
    far = [number for number, (_, regret) in enumerate(run, start=1) if regret > NEAR]
    last = far[-1] if far else 0
    return last + 1 if last < len(run) else None


def table(surface: Surface, cores: float, seeds: int) -> Iterator[str]:
    """Median regret over the seeds, as a Markdown table."""
    heads = [*(f"{n} trials" for n in TRIALS), *(f"{s:.0f} s" for s in SECONDS), "trials to 5%"]
    yield f"| | {' | '.join(heads)} |"
    yield "|---|" + "---:|" * len(heads)
    for name, make in replayed(surface, cores).items():
        runs = [regrets(make(seed), surface, max(TRIALS)) for seed in range(seeds)]
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
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for file in options.grids:
        surface = read_surface(file, usable_cores())
        print(f"{file.stem}: noise {surface.noise:.1%}, best {surface.best:,.0f} examples/s\n")
        print("\n".join([*table(surface, usable_cores(), options.seeds), ""]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
