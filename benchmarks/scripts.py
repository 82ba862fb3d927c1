"""Tunes the training scripts of examples/ as they are, compares their `fit`, and writes the table.

.venv/bin/python -m benchmarks.scripts                 all scripts, an hour or two
.venv/bin/python -m benchmarks.scripts --of NAME       resumes a run
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.bench import say
from benchmarks.journal import Journal, JournalError, run_to_resume
from benchmarks.markers import rewrite
from prefetch_tuning.experiments.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_NO_RESULT,
    EXIT_OK,
    UsageError,
)
from prefetch_tuning.experiments.host.environment import host_description, host_fingerprint
from prefetch_tuning.experiments.verdict.measurements import AS_WRITTEN, AUTOTUNE

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT, EXAMPLES = ROOT / "docs" / "scripts.md", ROOT / "examples"
FOLDER = Path("mlruns/scripts")
TUNED, COMPARED = "tuned", "compared"
PROGRAM = str(Path(sys.executable).with_name("prefetch-tune"))


def main(given: Sequence[str] | None = None) -> int:
    """Measures what the run doesn't have yet, writes the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="resume this run")
    options = parser.parse_args(given)
    name = options.of or f"scripts-{datetime.now():%Y%m%d-%H%M}"
    say(f'to stop: Ctrl-C; to resume: make scripts ARGS="--of {name}"')
    try:
        if options.of:
            run_to_resume(FOLDER, options.of)
        with Journal(FOLDER / f"{name}.jsonl", {"host": host_fingerprint()}) as journal:
            scripts = sorted(EXAMPLES.glob("*.py"))
            failed = [script for script in scripts if not _measured(script, name, journal)]
            lines = list(table(journal))
    except (JournalError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    print("\n".join(lines))
    if failed:
        return EXIT_NO_RESULT
    rewrite(DOCUMENT, "scripts", lines)
    return EXIT_OK


def _measured(script: Path, name: str, journal: Journal) -> bool:
    """Tunes a script, then compares its `fit`; whether both gave a result."""
    file, study = str(script.relative_to(ROOT)), f"{name}-{script.stem}"
    if journal.find(TUNED, script.stem) is None:
        begin = time.monotonic()
        found = _answer(["tune", file, "--study", study])
        if found is None:
            return False
        seconds = time.monotonic() - begin
        journal.add(TUNED, script.stem, result=found[0], seconds=seconds)
    if journal.find(COMPARED, script.stem) is None:
        compared = _answer(["run", file, "--config", study, "--compare"])
        if compared is None:
            return False
        journal.add(COMPARED, script.stem, result=compared)
    return True


def _answer(arguments: Sequence[str]) -> Any:
    """What a command writes as JSON; None if it failed."""
    path = (FOLDER / "answer.json").resolve()
    path.unlink(missing_ok=True)
    stores = ["--storage", f"sqlite:///{FOLDER}/optuna.db"]
    stores += ["--tracking-uri", f"sqlite:///{FOLDER}/mlflow.db"]
    say(f"prefetch-tune {' '.join(arguments)}")
    ran = subprocess.run([PROGRAM, *arguments, *stores, "--json", str(path)], cwd=ROOT, check=False)
    if ran.returncode != EXIT_OK:
        say(f"it ended with exit code {ran.returncode}")
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def table(journal: Journal) -> Iterator[str]:
    """One row per script that was compared."""
    yield f"`make scripts` on {host_description()}:"
    yield ""
    yield "| script | recommended | in trials | in `fit` | tuning takes |"
    yield "|---|---|---:|---:|---:|"
    for line in sorted(journal.of(COMPARED), key=lambda line: line["key"]):
        tuned = journal.find(TUNED, line["key"])
        assert tuned is not None
        result, compared = tuned["result"], line["result"]
        # AUTOTUNE keeps a PyDataset's own settings, so it stands for the script.
        own = AS_WRITTEN if result["over_written"] else AUTOTUNE
        unchanged = result["recommended"]["candidate"] in (AS_WRITTEN, own)
        over = result["over_written"] or result["speedup"]
        yield (
            f"| `examples/{line['key']}.py` | "
            f"{'as written' if unchanged else compared['words']} | "
            f"{'' if unchanged else _times(over)} | {_times(compared)} | {tuned['seconds']:.0f} s |"
        )


def _times(ratio: dict[str, Any]) -> str:
    return f"{ratio['ratio']:.2f}x ({ratio['ci']['low']:.2f}x to {ratio['ci']['high']:.2f}x)"


if __name__ == "__main__":
    raise SystemExit(main())
