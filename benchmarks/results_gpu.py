"""Tunes pipelines with a heavy step on a GPU and writes docs/results-gpu.md: `make results-gpu`.

.venv/bin/python benchmarks/results_gpu.py            measures, about five minutes per pipeline
.venv/bin/python benchmarks/results_gpu.py --of NAME  resumes a run and writes its document

With --of NAME --kept it measures nothing and needs no GPU. It writes the document from what the run
kept.
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
from benchmarks.gpu_check.document import machine
from benchmarks.gpu_check.ground import CheckError, run_program
from benchmarks.journal import Journal, JournalError, header_of
from benchmarks.result_parts.gpu_document import Row, document, utilisations
from benchmarks.result_parts.run import ROUNDS, kept_outcome, outcome_of, pair_of
from prefetch_tuning.experiments.errors import (
    EXIT_INTERRUPTED,
    EXIT_MISUSE,
    EXIT_OK,
    StudyError,
    UsageError,
)
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.pipelines.source import PipelineError

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = Path("mlruns/results")
# The pipelines whose step is heavy enough to make a GPU worth feeding.
PIPELINES = ("jpeg-resnet", "image-resnet")
MACHINE = "machine"
SHOW_DEVICE = "benchmarks.gpu_check.programs.show_device"
NO_GPU = "no GPU: NVML finds none here; `make gpu-check` says what to check"


def main(given: Sequence[str] | None = None, gpu: Gpu | None = None) -> int:
    """Measures what the run doesn't have yet, writes the document and returns the exit code.

    The document is written after each study and again after the rounds that judge its choice,
    because a lent machine may be taken away at any moment.
    """
    options = arguments(given)
    name = options.of or f"gpu-{datetime.now():%Y%m%d-%H%M}"
    resume = f'make results-gpu ARGS="--of {name}"'
    try:
        if options.kept:
            rewrite(options)
        else:
            with gpu or Gpu() as found:
                if not found.is_known:
                    raise UsageError(NO_GPU)
                say(f"to stop: Ctrl-C; to resume: {resume}")
                measure(name, options, machine(found, run_program(SHOW_DEVICE)))
    except (CheckError, JournalError, PipelineError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say(f"stopped; to resume: {resume}")
        return EXIT_INTERRUPTED
    print(f"wrote {options.out / 'results-gpu.md'}; to resume: {resume}")
    return EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="resume this run; its document names it")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="default: docs")
    parser.add_argument("--kept", action="store_true", help="measure nothing; needs --of NAME")
    parser.add_argument("pipelines", nargs="*", help=f"default: {' '.join(PIPELINES)}")
    return parser.parse_args(given)


def measure(name: str, options: argparse.Namespace, facts: dict[str, str]) -> None:
    """Measures each pipeline, except what the journal already has.

    Raises:
        UsageError: there is no run of this name to resume.
    """
    path = FOLDER / f"{name}.jsonl"
    header = header_of(path)
    if options.of is not None and header is None:
        raise UsageError(f"no run named {name!r} in {FOLDER}")
    begun_with = list(header["pipelines"]) if header else list(PIPELINES)
    pipelines = list(dict.fromkeys(options.pipelines)) or begun_with
    pinned = {"host": host_fingerprint(), "gpu": facts.get("gpu"), "rounds": ROUNDS}
    store = Store.choose(Path.cwd(), None, None)
    outcomes: dict[str, Row] = {}
    with Journal(path, pinned, pipelines=pipelines) as journal:
        journal.add(MACHINE, "facts", facts=facts)
        for pipeline in pipelines:
            for rounds in (0, ROUNDS):
                outcome = outcome_of(name, pipeline, journal, store, rounds=rounds, device="gpu")
                outcomes[pipeline] = (outcome, utilisations(outcome, store))
                write(options.out, name, facts, list(outcomes.values()))
                if pair_of(outcome.record) is None:
                    break  # nothing to judge; a second pass would tune it again


def rewrite(options: argparse.Namespace) -> None:
    """Writes the document of a run from what is kept of it; the run may be another machine's.

    Raises:
        UsageError: there is no such run.
    """
    name = options.of
    header = header_of(FOLDER / f"{name}.jsonl") if name else None
    if header is None:
        raise UsageError(f"--kept needs --of NAME with a run in {FOLDER}, not {name!r}")
    store = Store.choose(Path.cwd(), None, None)
    with Journal(FOLDER / f"{name}.jsonl", header["pinned"]) as journal:
        line = journal.find(MACHINE, "facts")
        pipelines = list(dict.fromkeys(options.pipelines)) or list(header["pipelines"])
        begun = [each for each in pipelines if has_study(f"{name}-{each}", store)]
        outcomes = [kept_outcome(name, pipeline, journal, store) for pipeline in begun]
        rows = [(outcome, utilisations(outcome, store)) for outcome in outcomes]
        write(options.out, name, line["facts"] if line else {}, rows)


def has_study(study: str, store: Store) -> bool:
    """Whether a study was started: the run may have ended before that."""
    try:
        load_study(study, store)
    except StudyError:
        return False
    return True


def write(folder: Path, name: str, facts: dict[str, str], rows: list[Row]) -> None:
    """Writes the document with what there is so far."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(document(name, facts, rows)) + "\n"
    (folder / "results-gpu.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
