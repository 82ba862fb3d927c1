"""Runs the checks that need a GPU: `make gpu-check`.

.venv/bin/python -m benchmarks.gpu_check                 all checks, about six minutes
.venv/bin/python -m benchmarks.gpu_check --only windows  one of them
.venv/bin/python -m benchmarks.gpu_check --out docs      also writes gpu-check.md and .json there

If the folder has documents of the same machine, the checks that were run replace their earlier
results there. The exit code is 1 if a check fails and 2 if there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import say
from benchmarks.gpu_check.checks import CHECKS, Checked, chosen, run_checks
from benchmarks.gpu_check.document import as_json, kept, machine, markdown
from benchmarks.gpu_check.ground import Ground
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK, UsageError
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.process.server import WorkerError

# The modules with checks, in the order in which they run. Importing one registers its checks.
MODULES = ("presence", "timing", "overlap", "failures", "memory")
EXIT_FAILS = 1
NAME = "gpu-check"
NO_GPU = (
    "no GPU: NVML finds none here; check `nvidia-smi -L`, CUDA_VISIBLE_DEVICES, and that the extra "
    "`cuda` is installed (`make setup` installs it if it sees a GPU)"
)


def main(given: Sequence[str] | None = None, gpu: Gpu | None = None) -> int:
    """Runs the checks and returns the exit code; `gpu` replaces the device that NVML finds."""
    for module in MODULES:
        importlib.import_module(f"benchmarks.gpu_check.claims.{module}")
    options = arguments(given)
    try:
        if unknown := [name for name in options.only or [] if name not in CHECKS]:
            raise UsageError(f"no check named {unknown[0]!r} (there are: {', '.join(CHECKS)})")
        with gpu or Gpu() as found:
            if not found.is_known:
                raise UsageError(NO_GPU)
            checked = measured(options, found)
    except (UsageError, WorkerError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say("stopped")
        return EXIT_INTERRUPTED
    states = {line.state for each in checked for line in each.lines}
    return EXIT_FAILS if "fails" in states else EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="only this; repeatable")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write both documents there")
    return parser.parse_args(given)


def measured(options: argparse.Namespace, gpu: Gpu) -> list[Checked]:
    """Runs the checks and writes the documents after each of them."""
    with TrialRunner() as runner:
        ground = Ground(runner, gpu)

        def keep(found: list[Checked]) -> None:
            if options.out is not None:
                write(options.out, ground, found)

        found = run_checks(chosen(options.only), ground, keep)
    print(markdown(machine(gpu, ground.facts), found, list(CHECKS)))
    return found


def write(folder: Path, ground: Ground, found: list[Checked]) -> None:
    """Writes both documents; the checks that were run replace their earlier results."""
    facts = machine(ground.gpu, ground.facts)
    folder.mkdir(parents=True, exist_ok=True)
    earlier = folder / f"{NAME}.json"
    if earlier.exists():
        facts, found = kept(earlier.read_text(encoding="utf-8"), facts, found)
    page = markdown(facts, found, list(CHECKS))
    (folder / f"{NAME}.md").write_text(page, encoding="utf-8")
    earlier.write_text(as_json(facts, found), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
