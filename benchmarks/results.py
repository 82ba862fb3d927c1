"""Tunes every built-in pipeline; writes docs/results.md with its plot, and README's table.

`make results` runs it.

.venv/bin/python benchmarks/results.py            measures for about an hour
.venv/bin/python benchmarks/results.py --of NAME  resumes a run and writes its document
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench import say
from benchmarks.journal import Journal, JournalError, header_of, run_to_resume
from benchmarks.markers import DocumentError, rewrite
from benchmarks.result_parts.document import document, short_table
from benchmarks.result_parts.plot import plot
from benchmarks.result_parts.run import ROUNDS, Outcome, outcome_of
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK, UsageError
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDER = Path("mlruns/results")


def main(given: Sequence[str] | None = None) -> int:
    """Measures what the run doesn't have yet, writes both files and returns the exit code."""
    options = arguments(given)
    name = options.of or f"results-{datetime.now():%Y%m%d-%H%M}"
    resume = f'make results ARGS="--of {name}"'
    try:
        pipelines = chosen(options.pipelines, options.of)
        say(f"to stop: Ctrl-C; to resume: {resume}")
        outcomes = measure(name, pipelines)
    except (JournalError, PipelineError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say(f"stopped; to resume: {resume}")
        return EXIT_INTERRUPTED
    plot([outcome.record for outcome in outcomes], DOCS / "results.svg")
    (DOCS / "results.md").write_text("\n".join(document(name, outcomes)) + "\n", encoding="utf-8")
    print(f"wrote {DOCS / 'results.md'}; to write it again: {resume}")
    if [outcome.name for outcome in outcomes] == catalog.names():
        try:
            rewrite(ROOT / "README.md", "results", list(short_table(outcomes)))
        except DocumentError as error:
            say(f"error: {error}")
            return EXIT_MISUSE
    return EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="resume this run; its document names it")
    parser.add_argument("pipelines", nargs="*", help="built-in names (default: all)")
    return parser.parse_args(given)


def chosen(pipelines: Sequence[str], of: str | None) -> list[str]:
    """The pipelines to measure: those that are named, or those of the resumed run, or all.

    Raises:
        PipelineError: no built-in pipeline has such a name.
        UsageError: there is no run named `of`.
    """
    if unknown := [name for name in pipelines if name not in catalog.names()]:
        there = ", ".join(catalog.names())
        raise PipelineError(f"no built-in pipeline named {unknown[0]!r} (there are: {there})")
    if of is None:
        return list(dict.fromkeys(pipelines)) or catalog.names()
    header = header_of(run_to_resume(FOLDER, of))
    earlier = list(header["pipelines"]) if header else catalog.names()
    return list(dict.fromkeys(pipelines)) or earlier


def path_of(name: str) -> Path:
    """The journal of a run."""
    return FOLDER / f"{name}.jsonl"


def measure(name: str, pipelines: Sequence[str]) -> list[Outcome]:
    """Measures each pipeline, except what the journal already has."""
    pinned = {"host": host_fingerprint(), "rounds": ROUNDS}
    store = Store.choose(Path.cwd(), None, None)
    with Journal(path_of(name), pinned, pipelines=pipelines) as journal:
        return [outcome_of(name, pipeline, journal, store) for pipeline in pipelines]


if __name__ == "__main__":
    raise SystemExit(main())
