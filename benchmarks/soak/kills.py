"""Kills default studies with SIGKILL at random moments and resumes them; counts what is left.

.venv/bin/python -m benchmarks.soak.kills            100 kills, about an hour
.venv/bin/python -m benchmarks.soak.kills --kills 5
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.bench import say
from benchmarks.markers import rewrite
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.reader import LoggedRun, RunReader
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.experiments.storage.studies import load_study

KILLS, PIPELINE = 100, "simple"
# A study may be killed while it starts, diagnoses, searches, confirms or writes its report.
EARLIEST_S, LATEST_S = 1.0, 60.0
# Processes notice within this time that their study is gone.
GONE_S = 15.0
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
EXIT_WRONG = 1


@dataclass(frozen=True)
class Account:
    """What is wrong with a study that was killed and resumed, a line per thing."""

    problems: list[str]
    trials: int
    rounds: int


def main(given: Sequence[str] | None = None) -> int:
    """Kills and resumes, prints what was wrong and returns the exit code."""
    options = arguments(given)
    rng = random.Random(options.seed)  # noqa: S311
    begin, killed, studies = time.monotonic(), 0, 0
    problems: list[str] = []
    trials = rounds = 0
    while killed < options.kills:
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            folder = Path(name)
            killed += _until_done(folder, rng, options.kills - killed)
            account = accounts(folder)
        studies += 1
        trials, rounds = trials + account.trials, rounds + account.rounds
        problems += [f"study {studies}: {problem}" for problem in account.problems]
        say(f"{killed} of {options.kills} kills, {studies} studies, {len(problems)} problems")
    minutes = (time.monotonic() - begin) / 60.0
    said = (
        f"`python -m benchmarks.soak.kills` on {host_description()}: {killed} kills at random "
        f"moments of {studies} default studies of `{PIPELINE}`, {minutes:.0f} minutes. "
        f"Optuna and MLflow have the same {trials} trials and the runs of the same {rounds} "
        "rounds, "
        + (f"but {len(problems)} things are wrong." if problems else "each exactly once.")
    )
    print("\n".join([said, *problems]))
    if options.write:
        rewrite(DOCUMENT, "kills", [said])
    return EXIT_WRONG if problems else EXIT_OK


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=KILLS, help=f"default: {KILLS}")
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument("--write", action="store_true", help="put the result into the document")
    return parser.parse_args(given)


def accounts(folder: Path) -> Account:
    """Compares what Optuna and MLflow keep of the study in this folder."""
    store = Store.choose(folder, None, None)
    kept = StudyAttributes(load_study("killed", store))
    rows = kept.rows
    runs = RunReader(store).search(None, "attributes.run_id != ''")
    problems = [f"{run.name} is still {run.status}" for run in runs if run.status == "RUNNING"]
    counted = Counter(run.tags.get(Tag.TRIAL_NUMBER) for run in runs if _counts(run, Kind.TRIAL))
    expected = {str(row.number) for row in rows}
    problems += [f"trial {number} has {n} runs" for number, n in counted.items() if n != 1]
    if set(counted) != expected:
        problems.append(f"Optuna has trials {sorted(expected)}, MLflow {sorted(map(str, counted))}")
    there = {run.run_id for run in runs}
    lost = [run_id for run_id in kept.known_run_ids if run_id and run_id not in there]
    problems += [f"run {run_id} is lost" for run_id in lost]
    measured = (Kind.TRIAL, Kind.CONFIRMATION, Kind.LIMIT)
    problems += [
        f"run {run.run_id} ({run.name}) belongs to nothing"
        for run in runs
        if any(_counts(run, kind) for kind in measured)
        and run.run_id not in kept.known_run_ids
        and run.status != "FAILED"
    ]
    parents = [run for run in runs if run.tags.get(Tag.KIND) == Kind.STUDY]
    if len(parents) != 1:
        problems.append(f"{len(parents)} parent runs")
    problems += [f"{path} was left" for path in folder.rglob("*.tmp")]
    problems += [f"process {process} was left" for process in _left(folder)]
    return Account(problems, len(rows), len(kept.rounds))


def _counts(run: LoggedRun, kind: Kind) -> bool:
    return run.tags.get(Tag.KIND) == kind and run.tags.get(Tag.STATE) != "interrupted"


def _until_done(folder: Path, rng: random.Random, most: int) -> int:
    """Runs the study in this folder again and again until it ends; returns how often it died."""
    killed = 0
    while True:
        program = [sys.executable, "-c", "from prefetch_tuning.experiments.cli import run; run()"]
        command = [*program, "tune", PIPELINE, "--study", "killed"]
        with (folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        try:
            process.wait(rng.uniform(EARLIEST_S, LATEST_S) if killed < most else None)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        if process.returncode == EXIT_OK:
            return killed
        text = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the study ended with {process.returncode}:\n{text[-2_000:]}")


def _left(folder: Path) -> list[int]:
    """Processes that still run in the folder a while after their study is gone."""
    end = time.monotonic() + GONE_S
    while (found := _in(folder)) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def _in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


if __name__ == "__main__":
    raise SystemExit(main())
