"""Compares what a trial costs beyond its measuring, forked and in a new interpreter.

Run from the checkout: .venv/bin/python benchmarks/trial_overhead.py [ROUNDS]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig

CONFIG = PipelineConfig(batch_size=64, prefetch_buffer=2, map_parallelism=2)
SHORT = StopRule(min_windows=3, max_s=0.5)


def overhead_s(runner: TrialRunner, name: str) -> float:
    """Wall seconds of one trial minus the seconds that it measured."""
    spec = TrialSpec(pipeline=catalog.resolve(name), config=CONFIG, stop=SHORT)
    begin = time.perf_counter()
    result = runner.measure(spec)
    wall_s = time.perf_counter() - begin
    if isinstance(result, TrialFailure):
        sys.exit(f"{name}: {result.kind}: {result.detail}\n{result.output}")
    return wall_s - result.measured_s


def main(rounds: int) -> None:
    """Prints each built-in pipeline's median overhead, forked and spawned, and their ratio."""
    print(f"{'pipeline':10}{'forked s':>10}{'spawned s':>11}{'ratio':>8}")
    with TrialRunner() as forked, TrialRunner(fork=False) as spawned:
        for name in catalog.names():
            for runner in (forked, spawned):
                overhead_s(runner, name)  # not counted: the first trial waits for the server
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(rounds):
                times[True].append(overhead_s(forked, name))
                times[False].append(overhead_s(spawned, name))
            fork_s, spawn_s = statistics.median(times[True]), statistics.median(times[False])
            print(f"{name:10}{fork_s:10.2f}{spawn_s:11.2f}{spawn_s / fork_s:8.1f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("rounds", nargs="?", type=int, default=5)
    main(arguments.parse_args().rounds)
