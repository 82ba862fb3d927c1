"""A generator in processes, and what can go wrong with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import psutil
import pytest
import tensorflow as tf

from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.chain.processes import GeneratorProcesses
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.conftest import ROOT
from tests.planted import pipelines as planted

TWO = PipelineConfig(batch_size=4, prefetch_buffer=0, map_parallelism=1, generator_workers=2)


class Numbers(planted.Planted):
    """Yields the numbers from the seed on, each with its process id. Raises at `fails_at`."""

    name = "numbers"
    element_spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))

    def __init__(self, fails_at: int | None = None, skips: bool = False) -> None:
        self.fails_at = fails_at
        self.skips = skips
        self.skipped_elements = 0

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in islice(count(seed), shard_index, None, shard_count):
            if number == self.fails_at:
                raise KeyError(f"lost {number}")
            self.skipped_elements += self.skips
            yield number, os.getpid()


class Uneven(Numbers):
    """Has shards of different lengths that aren't strides of one stream."""

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in range(5 if shard_index == 0 else 2):
            yield 100 * shard_index + number, 0


def first(monitor: SourceMonitor, length: int) -> list[int]:
    return [int(number) for number, _ in islice(monitor(), length)]


def test_they_run_elsewhere_and_give_the_plain_order() -> None:
    monitor = SourceMonitor(Numbers(), 7, TWO)

    elements = list(islice(monitor(), 50))

    assert [int(number) for number, _ in elements] == list(range(7, 57))
    makers = {int(pid) for _, pid in elements}
    assert len(makers) == 2
    assert os.getpid() not in makers


def test_shards_of_different_lengths_go_on_in_turn() -> None:
    monitor = SourceMonitor(Uneven(), 0, TWO)

    assert first(monitor, 100) == [0, 100, 1, 101, 2, 3, 4]
    assert first(monitor, 100) == [0, 100, 1, 101, 2, 3, 4]
    assert monitor.starts == 2


def test_a_run_that_was_given_up_leaves_nothing_in_the_next() -> None:
    monitor = SourceMonitor(Numbers(), 0, TWO)
    first(monitor, 30)

    assert first(monitor, 30) == list(range(30))


def test_what_a_shard_raises_is_raised_here() -> None:
    monitor = SourceMonitor(Numbers(fails_at=41), 0, TWO)

    with pytest.raises(KeyError, match="lost 41"):
        first(monitor, 100)
    assert isinstance(monitor.error, KeyError)


def test_what_the_shards_skip_is_counted() -> None:
    monitor = SourceMonitor(Numbers(skips=True), 0, TWO)
    first(monitor, 64)

    assert monitor.skipped_elements >= 64


def test_a_process_that_is_killed_is_named() -> None:
    processes = GeneratorProcesses(Numbers(), 0, TWO, "fork")
    run = processes.run()
    next(run)
    process = processes._processes[1]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(RuntimeError, match="generator process 1 ended with exit code -9"):
        for _ in run:
            pass


def test_they_end_with_their_parent() -> None:
    code = (
        "from itertools import islice\n"
        "from prefetch_tuning.pipelines.chain.monitor import SourceMonitor\n"
        "from tests.chain.test_processes import TWO, Numbers\n"
        "import time\n"
        "print(*{int(p) for _, p in islice(SourceMonitor(Numbers(), 0, TWO, 'fork')(), 64)})\n"
        "print('', flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2

    parent.kill()
    parent.wait()
    parent.stdout.close()

    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
