"""Compares this project with what users would do instead and writes docs/benchmarks.md.

`make bench` runs everything, `make bench BENCH=quick` a little of everything, in ten minutes.
`make bench ARGS="--of NAME"` resumes a run.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import optuna

from benchmarks.bench import say
from benchmarks.journal import Journal, JournalError, run_to_resume
from benchmarks.side_by_side import summary
from benchmarks.side_by_side.parts import PARTS
from benchmarks.side_by_side.plots import draw
from benchmarks.side_by_side.stand import Stand
from prefetch_tuning.experiments.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_NO_RESULT,
    EXIT_OK,
    UsageError,
    first_line,
)
from prefetch_tuning.experiments.host.environment import host_description, host_fingerprint
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines.source import PipelineError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
FOLDER = Path("mlruns/bench")
# In place of a part that the run doesn't have.
UNMEASURED = "Not measured in this run."


def main(given: Sequence[str] | None = None) -> int:
    """Measures what the run doesn't have yet, writes the document and returns the exit code."""
    options = arguments(given)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kind = "quick" if options.quick else "bench"
    name = options.of or f"{kind}-{datetime.now():%Y%m%d-%H%M}"
    resume = f'make bench ARGS="{" ".join(["--of", name, *options.parts])}"'
    resume += " BENCH=quick" if options.quick else ""
    path = FOLDER / f"{name}.jsonl"
    try:
        parts = chosen(options.parts)
        if options.of:
            run_to_resume(FOLDER, options.of)
        say(f"to stop: Ctrl-C; to resume: {resume}")
        pinned = {"host": host_fingerprint(), "quick": options.quick}
        with Journal(path, pinned) as journal, TrialRunner() as runner:
            stand = Stand(runner, journal, FOLDER / name, options.quick)
            failed = [each for each in parts if not _measured(each, stand)]
            text = list(document(name, journal))
            whole = not (options.quick or failed or UNMEASURED in text)
            if whole:
                draw(journal, DOCUMENT.parent)
    except (JournalError, PipelineError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say(f"stopped; to resume: {resume}")
        return EXIT_INTERRUPTED
    if whole:
        DOCUMENT.write_text("\n".join(text) + "\n", encoding="utf-8")
        print(f"wrote {DOCUMENT}; to write it again: {resume}")
    else:
        print("\n".join(text))
        say(f"not all parts are measured; to resume: {resume}")
    return EXIT_NO_RESULT if failed else EXIT_OK


def _measured(part: str, stand: Stand) -> bool:
    """Measures a part; whether it ended. One that fails doesn't cost the others."""
    say(f"part {part}")
    try:
        PARTS[part].measure(stand)
    except Exception as error:
        traceback.print_exc()
        say(f"part {part} failed, {type(error).__name__}: {first_line(error)}")
        return False
    return True


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="resume this run")
    parser.add_argument("--quick", action="store_true", help="a little of everything")
    parser.add_argument("parts", nargs="*", help=f"default: {' '.join(PARTS)}")
    return parser.parse_args(given)


def chosen(names: Sequence[str]) -> list[str]:
    """The parts to measure.

    Raises:
        UsageError: there is no such part.
    """
    for name in names:
        if name not in PARTS:
            raise UsageError(f"no part {name!r} (there are: {', '.join(PARTS)})")
    return list(names) or list(PARTS)


def document(run: str, journal: Journal) -> Iterator[str]:
    """The lines of docs/benchmarks.md; it has no figure that isn't from the journal."""
    yield "# Beside what users do instead"
    yield ""
    yield (
        f"Made by `make bench` (run `{run}`) on {host_description()}. Rates are examples per "
        "second of real training steps, each in a fresh process. Ratios are paired within "
        "interleaved rounds, with 95% intervals."
    )
    yield ""
    yield from summary.lines(journal)
    for name, part in PARTS.items():
        yield ""
        yield f"## {part.title}"
        yield ""
        yield f"To measure this part alone: `make bench ARGS={name}`."
        yield ""
        text = list(part.lines(journal))
        yield from text or [UNMEASURED]
    yield ""
    yield "## What can't be compared"
    yield ""
    yield (
        "loadtune tunes the settings of PyTorch's `DataLoader` for a PyTorch model, so it can't "
        "search a tf.data chain. keras-tuner searches a model's hyperparameters, but its oracles "
        "take any measure: it is the Gaussian process above. Optuna's own Gaussian process needs "
        "PyTorch, whose wheel for Linux is several times the size of everything else here."
    )


if __name__ == "__main__":
    raise SystemExit(main())
