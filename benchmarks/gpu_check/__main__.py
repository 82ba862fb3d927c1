"""Checks on a GPU what only a GPU can show: `make gpu-check`.

.venv/bin/python -m benchmarks.gpu_check                 all checks, some six minutes
.venv/bin/python -m benchmarks.gpu_check --only windows  one of them
.venv/bin/python -m benchmarks.gpu_check --out docs      also writes gpu-check.md and .json there

Exit code 1 if a check fails, 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.audit.judging import Line
from benchmarks.bench import say
from benchmarks.gpu_check.checks import CHECKS, chosen, run_checks
from benchmarks.gpu_check.document import as_json, kept, machine, markdown
from benchmarks.gpu_check.ground import Ground
from experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK, UsageError
from objectives.gpu import Gpu
from objectives.isolation import TrialRunner, WorkerError

# Those that hold checks, in the order in which they run; importing them registers these.
MODULES = ("presence", "timing", "overlap", "failures", "memory")
EXIT_FAILS = 1
NAME = "gpu-check"
NO_GPU = (
    "no GPU: NVML finds none here; check `nvidia-smi -L`, CUDA_VISIBLE_DEVICES, and that the extra "
    "`cuda` is installed (make setup does so where it sees a GPU)"
)


def main(given: Sequence[str] | None = None, gpu: Gpu | None = None) -> int:
    """Returns the exit code; `gpu` takes the place of the device that NVML finds."""
    for module in MODULES:
        importlib.import_module(f"benchmarks.gpu_check.{module}")
    options = arguments(given)
    try:
        if unknown := [name for name in options.only or [] if name not in CHECKS]:
            raise UsageError(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
        with gpu or Gpu() as found:
            if not found.is_known:
                raise UsageError(NO_GPU)
            lines = measured(options, found)
    except (UsageError, WorkerError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say("stopped")
        return EXIT_INTERRUPTED
    return EXIT_FAILS if any(line.state == "fails" for line in lines) else EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="this one; repeatable")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write both documents there")
    return parser.parse_args(given)


def measured(options: argparse.Namespace, gpu: Gpu) -> list[Line]:
    """Runs the checks; what there is is written after each of them."""
    began = time.monotonic()
    with TrialRunner() as runner:
        ground = Ground(runner, gpu)

        def keep(lines: list[Line]) -> None:
            if options.out is not None:
                seconds = time.monotonic() - began
                write(options.out, ground, lines, seconds, only=bool(options.only))

        lines = run_checks(chosen(options.only), ground, keep)
    print(markdown(machine(gpu, ground.facts), lines, time.monotonic() - began))
    return lines


def write(
    folder: Path, ground: Ground, lines: list[Line], seconds: float, *, only: bool = False
) -> None:
    """Both documents; those of some checks take the places of theirs in what is there."""
    facts = machine(ground.gpu, ground.facts)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = folder / f"{NAME}.json"
    if only and earlier.exists():
        facts, lines = kept(earlier.read_text(encoding="utf-8"), facts, lines)
    (folder / f"{NAME}.md").write_text(markdown(facts, lines, seconds), encoding="utf-8")
    (folder / f"{NAME}.json").write_text(as_json(facts, lines, seconds), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
