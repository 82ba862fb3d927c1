"""Tunes each built-in pipeline for two emulated steps and writes docs/accelerators.md.

`make accelerators` runs it; `make accelerators ARGS="--of NAME"` resumes a run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from benchmarks.accelerators.document import document
from benchmarks.accelerators.run import Outcome, outcome_of, steps_of
from benchmarks.accelerators.steps import Fed
from benchmarks.audit.access import NotMeasuredError
from benchmarks.bench import say
from benchmarks.journal import Journal, JournalError, run_to_resume
from prefetch_tuning.experiments.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_NO_RESULT,
    EXIT_OK,
    UsageError,
)
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "accelerators.md"
FOLDER = Path("mlruns/accelerators")


def main(given: Sequence[str] | None = None) -> int:
    """Measures what the run doesn't have yet, writes the document and returns the exit code."""
    options = arguments(given)
    name = options.of or f"accelerators-{datetime.now():%Y%m%d-%H%M}"
    resume = f'make accelerators ARGS="{" ".join(["--of", name, *options.pipelines])}"'
    try:
        path = run_to_resume(FOLDER, name) if options.of else FOLDER / f"{name}.jsonl"
        say(f"to stop: Ctrl-C; to resume: {resume}")
        outcomes = measure(name, path, options.pipelines or catalog.names())
    except (JournalError, PipelineError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say(f"stopped; to resume: {resume}")
        return EXIT_INTERRUPTED
    if not outcomes:
        return EXIT_NO_RESULT
    DOCUMENT.write_text("\n".join(document(name, outcomes)) + "\n", encoding="utf-8")
    print(f"wrote {DOCUMENT}; to write it again: {resume}")
    return EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="resume this run")
    parser.add_argument("pipelines", nargs="*", help="built-in names (default: all)")
    return parser.parse_args(given)


def measure(name: str, path: Path, pipelines: Sequence[str]) -> list[Outcome]:
    """Measures each pipeline with each of its steps; what fails is left out, with a warning."""
    store = Store.choose(Path.cwd(), None, None)
    outcomes: list[Outcome] = []
    with Journal(path, {"host": host_fingerprint()}) as journal:
        for pipeline in pipelines:
            steps: list[Fed] = []
            with _warned():
                steps = steps_of(pipeline, journal)
            for fed in steps:
                with _warned():
                    outcomes.append(outcome_of(name, pipeline, fed, journal, store))
    return outcomes


@contextmanager
def _warned() -> Iterator[None]:
    """Says what could not be measured, and goes on."""
    try:
        yield
    except NotMeasuredError as error:
        say(f"warning: {error}")


if __name__ == "__main__":
    raise SystemExit(main())
