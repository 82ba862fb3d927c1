"""Measures a grid over the space that a study of a pipeline would search: grid.py PIPELINE.

Run from the checkout: .venv/bin/python benchmarks/grid.py benchmarks.audit.planted:BlockingMap
The same command resumes a run that was cut off. At the end it prints a table of the best ten and
the truth that `python -m benchmarks.audit.truths` collects.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench import BRIEF, Bench, say
from benchmarks.grids.result import in_words, table, truth_of
from benchmarks.grids.run import Grid, GridSettings
from benchmarks.journal import Journal, JournalError, header_of
from prefetch_tuning.experiments.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_NO_RESULT,
    EXIT_OK,
)
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig, one_line
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import PipelineError

FOLDER = Path("mlruns/grids")


def measure(options: argparse.Namespace, runner: TrialRunner) -> int:
    """Starts or resumes a grid and prints its result."""
    info = runner.inspect(catalog.resolve(options.pipeline), options.seed, "auto")
    size = options.batch_size or max(info.batch_sizes)
    basic = "-basic" if options.axes == "basic" else ""
    path = options.out or FOLDER / f"{info.name}-{size}{basic}.jsonl"
    costs = costs_of(path) or diagnosed(runner, info, options.seed)
    diagnosis = diagnose(costs, usable_cores()) if costs else None
    asked = Options(batch_size=size, axes=options.axes)
    space = finer(offer(info, asked, diagnosis, usable_cores()).space, options.step)
    settings = GridSettings.model_validate({**vars(options), "batch_size": size})
    pinned: dict[str, Any] = {
        "target": info.target,
        "source_digest": info.source_digest,
        "space": space.described,
        "host": host_fingerprint(),
        "brief": BRIEF,
        "axes": options.axes,
        "step": options.step,
        **settings.model_dump(),
    }
    with Journal(path, pinned, name=info.name, info=info, costs=costs) as journal:
        say(f"writing {path}")
        autotune = PipelineConfig.autotune(size, **info.own)
        bench = Bench(runner, journal, options.seed)
        grid = Grid(bench, info.target, space, settings, autotune)
        if options.points_only:
            grid.points()
            return EXIT_OK
        found = grid.run()
        print("\n".join(table(found)))
        truth = truth_of(found)
        if truth is None:
            say(f"{info.name}: no configuration could be measured")
            return EXIT_NO_RESULT
        if journal.find("truth", "truth") is None:
            journal.add("truth", "truth", **truth.model_dump())
        print(f"\n{in_words(truth)}")
    return EXIT_OK


def costs_of(path: Path) -> StageCosts | None:
    """The stages' costs that an earlier run kept; None if there are none.

    A resumed run uses these costs: new ones might offer other axes, and the space is pinned.

    Raises:
        JournalError: another version of this project wrote them.
    """
    header = header_of(path)
    if header is None or header.get("costs") is None:
        return None
    try:
        return StageCosts.model_validate(header["costs"])
    except ValidationError:
        raise JournalError(f"another version of this project wrote {path}: move it away") from None


def finer(space: SearchSpace, step: float) -> SearchSpace:
    """The same space with points of its ranges that are `step` times apart, at least 1."""
    return replace(space, axes=tuple(_finer(axis, step) for axis in space.axes))


def _finer(axis: Axis, step: float) -> Axis:
    if axis.choices or step == 2.0:
        return axis
    points, point = [axis.low], axis.low
    while (point := max(round(point * step), point + 1)) < axis.high:
        points.append(point)
    return replace(axis, points=tuple(dict.fromkeys([*points, axis.high])))


def diagnosed(runner: TrialRunner, info: PipelineInfo, seed: int) -> StageCosts | None:
    """The stages' costs, measured now; None if that fails, so all axes are offered."""
    if not info.has_stages:
        return None
    costs = runner.measure_stages(info.target, seed, "auto")
    if isinstance(costs, TrialFailure):
        say(f"{info.name}: no diagnosis, {costs.kind}: {costs.detail}")
        return None
    return costs


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("pipeline", metavar="PIPELINE", help="built-in name or module:attribute")
    parser.add_argument(
        "--points", type=int, default=120, help="about how many; 0 for all (default: 120)"
    )
    parser.add_argument(
        "--step", type=float, default=2.0, help="from point to point of a range (default: 2)"
    )
    parser.add_argument("--axes", choices=("basic", "all"), default="all")
    parser.add_argument("--out", type=Path, help=f"default: {FOLDER}/NAME-BATCH.jsonl")
    parser.add_argument("--batch-size", type=int, help="in examples (default: the largest)")
    parser.add_argument(
        "--reference-every", type=int, default=1, help="points between references (default: 1)"
    )
    parser.add_argument("--rounds-of-ten", type=int, default=9)
    parser.add_argument("--rounds-of-three", type=int, default=30)
    parser.add_argument("--points-only", action="store_true", help="without rounds and a result")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


def main() -> int:
    """Returns the exit code: 1 without a result, 2 for an invalid request."""
    options = arguments()
    try:
        with TrialRunner() as runner:
            return measure(options, runner)
    except ValidationError as error:
        say(f"error: {one_line(error)}")
        return EXIT_MISUSE
    except (JournalError, PipelineError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say("stopped; the same command resumes from here")
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
