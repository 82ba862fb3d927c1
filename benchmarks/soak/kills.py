"""Kills default studies with SIGKILL at random moments and resumes them; counts what is left.

.venv/bin/python -m benchmarks.soak.kills                100 kills, about an hour
.venv/bin/python -m benchmarks.soak.kills --at-once 2    the same in less time
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
from concurrent.futures import ThreadPoolExecutor
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
# The study's temporary folder, and what it may leave there.
TEMPORARY, HOST_LOCK = "temporary", "prefetch-tuning.lock"


@dataclass(frozen=True)
class Account:
    """What is wrong with a study that was killed and resumed, a line per thing."""

    problems: list[str]
    trials: int
    rounds: int


@dataclass(frozen=True)
class Killed:
    """How often studies were killed, and what is left of each."""

    kills: int
    accounts: list[Account]


def main(given: Sequence[str] | None = None) -> int:
    """Kills and resumes, prints what was wrong and returns the exit code."""
    options = arguments(given)
    begin, at_once = time.monotonic(), options.at_once
    share = [len(range(number, options.kills, at_once)) for number in range(at_once)]
    with ThreadPoolExecutor(at_once) as pool:
        seeds = range(options.seed, options.seed + at_once)
        found = list(pool.map(kill_studies, share, seeds))
    accounts = [account for each in found for account in each.accounts]
    problems = [
        f"study {number}: {problem}"
        for number, account in enumerate(accounts, start=1)
        for problem in account.problems
    ]
    said = in_words(sum(each.kills for each in found), accounts, at_once, time.monotonic() - begin)
    print("\n".join([said, *problems]))
    if options.write:
        rewrite(DOCUMENT, "kills", [said])
    return EXIT_WRONG if problems else EXIT_OK


def kill_studies(kills: int, seed: int) -> Killed:
    """Kills studies `kills` times in all, and lets each one end in the end."""
    rng = random.Random(seed)  # noqa: S311
    killed, found = 0, []
    while killed < kills:
        with tempfile.TemporaryDirectory(prefix="kills-") as name:
            folder = Path(name)
            killed += _until_done(folder, rng, kills - killed)
            found.append(accounts(folder))
        say(f"{killed} of {kills} kills, {len(found[-1].problems)} problems in the last study")
    return Killed(killed, found)


def in_words(kills: int, found: Sequence[Account], at_once: int, seconds: float) -> str:
    """The result in a few sentences."""
    problems = sum(len(account.problems) for account in found)
    trials = sum(account.trials for account in found)
    rounds = sum(account.rounds for account in found)
    beside = f", {at_once} at a time" if at_once > 1 else ""
    return (
        f"`python -m benchmarks.soak.kills` on {host_description()}: {kills} kills at random "
        f"moments of {len(found)} default studies of `{PIPELINE}`{beside}, {seconds / 60.0:.0f} "
        f"minutes. Optuna and MLflow have the same {trials} trials and the runs of the same "
        f"{rounds} rounds, "
        + (f"but {problems} things are wrong." if problems else "each exactly once.")
    )


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=KILLS, help=f"default: {KILLS}")
    parser.add_argument("--at-once", type=int, default=1, help="studies at a time; default: 1")
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
    left = [*folder.rglob("*.tmp"), *(folder / TEMPORARY).iterdir()]
    problems += [f"{path} was left" for path in left if path.name != HOST_LOCK]
    problems += [f"process {process} was left" for process in _left(folder)]
    return Account(problems, len(rows), len(kept.rounds))


def _counts(run: LoggedRun, kind: Kind) -> bool:
    return run.tags.get(Tag.KIND) == kind and run.tags.get(Tag.STATE) != "interrupted"


def _until_done(folder: Path, rng: random.Random, most: int) -> int:
    """Runs the study in this folder again and again until it ends; returns how often it died."""
    killed = 0
    temporary = folder / TEMPORARY
    temporary.mkdir()
    while True:
        program = [sys.executable, "-c", "from prefetch_tuning.experiments.cli import run; run()"]
        command = [*program, "tune", PIPELINE, "--study", "killed"]
        # Studies of one host take turns by a lock in the temporary folder. Nothing here depends on
        # a rate, so each may have its own.
        environment = {**os.environ, "TMPDIR": str(temporary)}
        with (folder / "output.txt").open("ab") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdout=output, stderr=output, env=environment
            )
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
