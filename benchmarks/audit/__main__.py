"""Checks claims against pipelines whose costs are known: `make audit`, `make audit-full`.

.venv/bin/python -m benchmarks.audit            exact truths and short runs, at most 15 minutes
.venv/bin/python -m benchmarks.audit --full     whole studies and repeats, an hour or more

The full audit resumes where it was cut off. The exit code is 1 if a line fails.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.audit.document import counted, table
from benchmarks.audit.ground import AuditBench
from benchmarks.audit.judging import Line
from benchmarks.audit.parts import PARTS, Part, run_parts
from benchmarks.audit.truths import load_truths
from benchmarks.bench import say
from benchmarks.journal import Journal, JournalError
from benchmarks.markers import DocumentError, rewrite
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, UsageError
from prefetch_tuning.experiments.host.environment import host_description, host_fingerprint
from prefetch_tuning.objectives.process.runner import TrialRunner

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "measured.md"
FOLDER = Path("mlruns/audit")
# The modules with parts. Importing one registers its parts.
MODULES = ("searches", "limits", "data", "edges", "emulated", "studies", "cheapest", "pauses")
EXIT_OK, EXIT_FAILS = 0, 1


def main(given: Sequence[str] | None = None) -> int:
    """Runs an audit and returns the exit code: 1 if a line fails, 2 for an invalid request."""
    options = arguments(given)
    began = time.monotonic()
    try:
        parts = chosen(options.full, options.part)
        if options.write and options.part:
            raise UsageError("--write replaces the whole table: give it without --part")
        with TrialRunner() as runner, journal_of(options.full) as journal:
            say(f"writing {journal.path}")
            lines = run_parts(parts, AuditBench(runner, journal, load_truths()))
        report = [*heading(options.full, lines, time.monotonic() - began), "", *table(lines)]
        print("\n".join(report))
        if options.write:
            rewrite(DOCUMENT, "audit-full" if options.full else "audit", report)
    except (UsageError, JournalError, DocumentError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say("stopped" + ("; the same command resumes from here" if options.full else ""))
        return EXIT_INTERRUPTED
    return EXIT_FAILS if any(line.state == "fails" for line in lines) else EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audit", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--full", action="store_true", help="the parts that need whole studies")
    parser.add_argument("--part", action="append", metavar="NAME", help="only this; repeatable")
    parser.add_argument("--write", action="store_true", help="put the table into docs/measured.md")
    return parser.parse_args(given)


def chosen(full: bool, names: Sequence[str] | None) -> list[Part]:
    """The parts of an audit, or only those that are named.

    Raises:
        UsageError: the audit has no part of such a name.
    """
    for module in MODULES:
        importlib.import_module(f"benchmarks.audit.claims.{module}")
    parts = {name: part for name, part in PARTS.items() if part.full == full}
    for name in names or []:
        if name not in parts:
            raise UsageError(f"no part {name!r} in this audit (there are: {', '.join(parts)})")
    return [part for name, part in parts.items() if not names or name in names]


def journal_of(full: bool) -> Journal:
    """A new journal for a short audit, or the one of all full audits of the same sources."""
    digest = sources_digest(ROOT)
    stamp = digest if full else f"{datetime.now():%Y%m%d-%H%M%S}"
    path = FOLDER / f"{'full' if full else 'short'}-{stamp}.jsonl"
    return Journal(path, {"sources": digest, "host": host_fingerprint()})


def sources_digest(root: Path) -> str:
    """Twelve hex digits that change with what is measured, but not with how it is judged."""
    total = hashlib.sha256()
    names = ("planted.py", "edges.py", "claims/known.py")
    planted = [root / "benchmarks" / "audit" / name for name in names]
    floors = [root / name for name in ("experiments", "objectives", "pipelines")]
    for file in [*planted, *(file for floor in floors for file in sorted(floor.rglob("*.py")))]:
        total.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return total.hexdigest()[:12]


def heading(full: bool, lines: Sequence[Line], seconds: float) -> list[str]:
    """The text above the table: what was run, when, where and how it ended."""
    command = "make audit-full" if full else "make audit"
    return [
        f"`{command}` on {datetime.now():%Y-%m-%d}, {host_description()}, {seconds / 60:.0f} "
        f"minutes: {counted(lines)}."
    ]


if __name__ == "__main__":
    raise SystemExit(main())
