"""Runs many short trials, one in five failing in some way, and reads what they leave behind.

`make soak` runs 300 in a temporary folder; `--write` puts the figures into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from benchmarks.markers import rewrite
from benchmarks.soak.readings import Reading, Slope, Watch, slope
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule

TARGET, STUDY = "benchmarks.soak.planted:Unsteady", "soak"
TRIALS, TIMEOUT_S = 300, 6.0
QUICK = StopRule(window_s=0.02, startup_s=0.02, min_windows=3, max_s=0.1, target_half_width=0.5)
MOST_KIB = 10.0
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
EXIT_GROWS = 1
# A variable that every process of the run inherits.
MARK = "PREFETCH_TUNING_SOAK"


def main(given: Sequence[str] | None = None) -> int:
    """Runs the trials, prints the table and returns the exit code."""
    options = arguments(given)
    os.environ[MARK] = str(os.getpid())
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        readings, ended = run(Path(folder), options.trials)
    seconds = time.monotonic() - begin
    left = _left_behind()
    lines = list(table(readings, ended, left, seconds))
    print("\n".join(lines))
    if options.write:
        rewrite(DOCUMENT, "soak", lines)
    grows = slope([r.resident_kib for r in readings]).high >= MOST_KIB
    return EXIT_GROWS if grows or left or _grew(readings) else EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"default: {TRIALS}")
    parser.add_argument("--write", action="store_true", help="put the figures into the document")
    return parser.parse_args(given)


def run(folder: Path, trials: int) -> tuple[list[Reading], Counter[str]]:
    """Runs a study without rounds; returns the readings, and the trials by how they ended."""
    store = Store.within(folder)
    request = TuneRequest.checked(
        pipelines=[TARGET],
        study=STUDY,
        trials=trials,
        rounds=0,
        stop=QUICK,
        trial_timeout_s=TIMEOUT_S,
    )
    watch = Watch()
    with TrialRunner() as runner:
        Tuning(store, runner, watch).tune(request, time.monotonic())
    kept = StudyAttributes(load_study(STUDY, store))
    ended: Counter[str] = Counter(
        row.failure.kind if row.failure else row.state for row in kept.rows
    )
    return watch.readings, ended


def table(
    readings: Sequence[Reading], ended: Counter[str], left: int, seconds: float
) -> Iterator[str]:
    """What was run and what grew."""
    how = ", ".join(f"{count} {name}" for name, count in ended.most_common())
    yield (
        f"`make soak` on {host_description()}: {len(readings)} trials in {seconds / 60:.0f} "
        f"minutes ({how})."
    )
    yield ""
    yield "| of the process that runs the study | after the first trial | at the end | per trial |"
    yield "|---|---:|---:|---:|"
    memory = slope([r.resident_kib for r in readings])
    first, last = readings[0], readings[-1]
    before_mib, after_mib = (f"{each.resident_kib / 1024:.1f}" for each in (first, last))
    yield f"| resident memory, MiB | {before_mib} | {after_mib} | {_words(memory)} KiB |"
    for name in ("descriptors", "threads", "processes"):
        yield f"| {name} | {getattr(first, name)} | {getattr(last, name)} | |"
    yield ""
    yield f"Processes that outlived the study: {left}."


def _words(found: Slope) -> str:
    return f"{found.value:.1f} ({found.low:.1f} to {found.high:.1f})"


def _grew(readings: Sequence[Reading]) -> bool:
    """Whether descriptors, threads or processes grow with the trials."""
    settled = readings[len(readings) // 5 :]
    names = ("descriptors", "threads", "processes")
    return any(slope([float(getattr(r, name)) for r in settled]).low > 0.0 for name in names)


def _left_behind() -> int:
    """Processes that this run started, also those whose parents are gone."""
    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found += process.environ().get(MARK) == str(os.getpid())
    return found


if __name__ == "__main__":
    raise SystemExit(main())
