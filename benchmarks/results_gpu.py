"""Tunes pipelines with a heavy step on a GPU and writes docs/results-gpu.md: `make results-gpu`.

.venv/bin/python benchmarks/results_gpu.py            measures, some five minutes per pipeline
.venv/bin/python benchmarks/results_gpu.py --of NAME  goes on with a run and writes its document
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

# Run as a file, this folder is searched for modules and the one above it is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench import say
from benchmarks.gpu_check.document import machine
from benchmarks.journal import Journal, JournalError, header_of
from benchmarks.results_gpu_document import Row, document, utilisations
from benchmarks.results_run import ROUNDS, outcome_of
from experiments.environment import host_fingerprint
from experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK, UsageError
from experiments.store import Store
from objectives.gpu import Gpu
from pipelines.source import PipelineError

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDER = Path("mlruns/results")
# Those whose step is heavy enough for a GPU to be worth feeding.
PIPELINES = ("jpeg-resnet", "image-resnet")
NO_GPU = "no GPU: NVML finds none here; `make gpu-check` says more"


def main(given: Sequence[str] | None = None, gpu: Gpu | None = None) -> int:
    """Measures what the run does not have yet and writes the document; returns the exit code.

    It is written after each study and again after the rounds that judge its choice: a lent
    machine may be taken away at any moment.
    """
    options = arguments(given)
    name = options.of or f"gpu-{datetime.now():%Y%m%d-%H%M}"
    resume = f'make results-gpu ARGS="--of {name}"'
    try:
        with gpu or Gpu() as found:
            if not found.is_known:
                raise UsageError(NO_GPU)
            say(f"to stop: Ctrl-C; to go on with what is measured by then: {resume}")
            measure(name, options, machine(found, {}))
    except (JournalError, PipelineError, UsageError) as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say(f"stopped; to go on from here: {resume}")
        return EXIT_INTERRUPTED
    print(f"{options.out / 'results-gpu.md'} is written; to write it anew: {resume}")
    return EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="go on with this run, as its document says")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="default: docs")
    parser.add_argument("pipelines", nargs="*", help=f"default: {' '.join(PIPELINES)}")
    return parser.parse_args(given)


def measure(name: str, options: argparse.Namespace, facts: dict[str, str]) -> None:
    """One part per pipeline; what the journal has of it is not measured again.

    Raises:
        UsageError: there is no run of this name to go on with.
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
    options.out.mkdir(parents=True, exist_ok=True)
    with Journal(path, pinned, pipelines=pipelines) as journal:
        for pipeline, rounds in ((each, rounds) for each in pipelines for rounds in (0, ROUNDS)):
            outcome = outcome_of(name, pipeline, journal, store, search_s=None, rounds=rounds)
            outcomes[pipeline] = (outcome, utilisations(outcome, store))
            text = "\n".join(document(name, facts, list(outcomes.values()))) + "\n"
            (options.out / "results-gpu.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
