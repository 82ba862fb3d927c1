"""Pipelines that read over HTTP and from SQLite, and the batches of a `PyDataset`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import psutil
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines.builtin import jpeg, remote, tabular
from prefetch_tuning.pipelines.builtin.keras_sequence import Batches, build_model
from prefetch_tuning.pipelines.builtin.remote import (
    LATENCY_VARIABLE,
    RemotePipeline,
    RemoteReadError,
)
from prefetch_tuning.pipelines.builtin.support import cache, object_server
from prefetch_tuning.pipelines.builtin.support.object_server import CLASSES, OBJECTS, make_object
from prefetch_tuning.pipelines.builtin.tabular import TabularPipeline
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError

Realistic = RemotePipeline | TabularPipeline

FORK = multiprocessing.get_context("fork")
ROWS = 1_501  # more than a chunk, and divisible by neither 2 nor 3
FILES = 100
ENDS_WITHIN_S = 10.0


@pytest.fixture(scope="module", autouse=True)
def _small_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A separate cache for this module, with fewer rows and files than a user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))
        patch.delenv(LATENCY_VARIABLE, raising=False)
        patch.setattr(tabular, "ROWS", ROWS)
        patch.setattr(jpeg, "FILES", FILES)
        yield


@pytest.fixture(scope="module")
def quick() -> RemotePipeline:
    """A server without latency, for the tests that don't measure time."""
    return RemotePipeline(latency_ms=0.0)


@pytest.fixture(params=["remote", "tabular"])
def pipeline(request: pytest.FixtureRequest, quick: RemotePipeline) -> Realistic:
    return quick if request.param == "remote" else TabularPipeline()


def elements(pipeline: Realistic, count: int, seed: int = 0, **shard: int) -> list[Any]:
    return list(islice(pipeline.generate(seed, **shard), count))


def servers() -> list[psutil.Process]:
    """The object servers that this process started and that haven't ended."""
    found = psutil.Process().children()
    return [child for child in found if "object_server.py" in " ".join(child.cmdline())]


def started(pipeline: RemotePipeline) -> psutil.Process:
    """The server that `pipeline.prepare` starts."""
    before = servers()
    pipeline.prepare()
    (server,) = (child for child in servers() if child not in before)
    return server


def ends(pid: int) -> bool:
    """Whether a process ends soon. A zombie, which nobody has reaped yet, counts as ended."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


# Both generators


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_the_shards_in_turn_give_the_whole_stream(pipeline: Realistic, shards: int) -> None:
    each = 60 // shards
    whole = elements(pipeline, shards * each, seed=3)

    parts = [
        elements(pipeline, each, seed=3, shard_index=i, shard_count=shards) for i in range(shards)
    ]

    in_turn = [element for turn in zip(*parts, strict=True) for element in turn]
    assert digest(in_turn) == digest(whole)


@pytest.mark.parametrize(("index", "shards"), [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_is_not_there_is_an_error(
    pipeline: Realistic, index: int, shards: int
) -> None:
    with pytest.raises(ValueError, match=f"no shard {index} of {shards}"):
        next(pipeline.generate(0, shard_index=index, shard_count=shards))


def test_the_same_seed_gives_the_same_elements(pipeline: Realistic) -> None:
    first, again, other = (digest(elements(pipeline, 20, seed)) for seed in (3, 3, 4))

    assert first == again
    assert first != other


def test_elements_match_their_spec(pipeline: Realistic) -> None:
    for features, label in elements(pipeline, 20):
        assert features.shape == pipeline.element_spec[0].shape
        assert features.dtype == np.float32
        assert type(label) is int
        assert 0 <= label < CLASSES


def test_tensorflows_threads_may_ask_by_turns(pipeline: Realistic) -> None:
    config = PipelineConfig(batch_size=16, prefetch_buffer=2, map_parallelism=2)

    for features, labels in build_dataset(pipeline, config, seed=1).take(4):
        assert features.shape == (16, *pipeline.element_spec[0].shape)
        assert abs(float(tf.reduce_mean(features))) < 0.5  # scaled to a mean of about zero
        assert labels.dtype == tf.int32


# The object store


def test_an_element_is_what_the_store_holds(
    quick: RemotePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, numbers = remote._read, []

    def noting(store: Any, number: int) -> bytes:
        numbers.append(number)
        return read(store, number)

    monkeypatch.setattr(remote, "_read", noting)
    got = elements(quick, 5, shard_index=1, shard_count=3)

    assert len(numbers) == len(set(numbers)) == 5  # no object of another shard was read
    for number, (features, label) in zip(numbers, got, strict=True):
        assert [label, *features.ravel()] == list(make_object(number))


@pytest.mark.timing
def test_the_latency_is_waited_for_without_work() -> None:
    pipeline = RemotePipeline(latency_ms=20.0)
    server = started(pipeline)
    generator = pipeline.generate(0)
    next(generator)
    before_s = sum(server.cpu_times()[:2])

    start_s = time.monotonic()
    list(islice(generator, 10))
    took_s = time.monotonic() - start_s

    assert took_s >= 10 * 0.020
    assert sum(server.cpu_times()[:2]) - before_s < took_s / 2


@pytest.mark.timing
def test_reads_at_the_same_time_wait_at_the_same_time() -> None:
    pipeline = RemotePipeline(latency_ms=50.0)
    generators = [pipeline.generate(0, shard_index=i, shard_count=8) for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(next, generators))  # starts the server, opens the connections
        took_s = []
        for _ in range(3):  # another process may be busy: the fastest counts
            start_s = time.monotonic()
            list(threads.map(next, generators))
            took_s.append(time.monotonic() - start_s)

    assert 0.050 <= min(took_s) < 0.200


def test_the_latency_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RemotePipeline().latency_ms == 5.0

    monkeypatch.setenv(LATENCY_VARIABLE, "12.5")

    assert RemotePipeline().latency_ms == 12.5
    assert RemotePipeline(latency_ms=1.0).latency_ms == 1.0


@pytest.mark.parametrize("latency", ["soon", "-1", "nan", "1e9"])
def test_a_latency_that_is_none_is_refused(latency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LATENCY_VARIABLE, latency)

    with pytest.raises(PipelineError, match=f"'{latency}'.*{LATENCY_VARIABLE}=5"):
        RemotePipeline()


def test_a_server_that_stops_is_an_error_that_says_so() -> None:
    pipeline = RemotePipeline(latency_ms=0.0)
    server = started(pipeline)
    generator = pipeline.generate(0)
    next(generator)

    server.kill()
    server.wait(ENDS_WITHIN_S)

    with pytest.raises(RemoteReadError, match=r"cannot read object \d+ from http://127.*stopped"):
        next(generator)
    with pytest.raises(RemoteReadError, match="ConnectionRefusedError"):
        next(pipeline.generate(0))


def test_an_object_that_is_not_there_is_an_error(
    quick: RemotePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "shuffled_epochs", lambda *_: iter([OBJECTS]))

    with pytest.raises(RemoteReadError, match=f"object {OBJECTS} .* answered 404 Not Found"):
        next(quick.generate(0))


def test_a_server_that_does_not_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise OSError('no ports left')")
    monkeypatch.setattr(object_server, "__file__", str(broken))

    with pytest.raises(PipelineError, match="did not start: OSError: no ports left"):
        RemotePipeline().prepare()


def test_the_server_goes_with_its_pipeline() -> None:
    pipeline = RemotePipeline(latency_ms=0.0)
    server = started(pipeline)
    pipeline.prepare()
    assert servers().count(server) == 1

    del pipeline

    assert server not in servers()


def test_the_server_holds_none_of_the_parents_files(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        pipeline = RemotePipeline(latency_ms=0.0)
        server = started(pipeline)

        targets = [link.readlink() for link in Path(f"/proc/{server.pid}/fd").iterdir()]

    assert Path(held.name) not in targets
    assert Path("/proc/self/fd/2").readlink() not in targets


def read_in_a_fork(pipeline: RemotePipeline, answers: Connection) -> None:
    answers.send((digest(elements(pipeline, 5)), [child.pid for child in servers()]))


def test_copies_read_from_the_same_server(quick: RemotePipeline) -> None:
    quick.prepare()
    expected = digest(elements(quick, 5))
    before = servers()

    ours, theirs = FORK.Pipe()
    fork = FORK.Process(target=read_in_a_fork, args=(quick, theirs))
    fork.start()
    in_the_fork = ours.recv() if ours.poll(ENDS_WITHIN_S) else None
    fork.join(ENDS_WITHIN_S)
    pickled = pickle.loads(pickle.dumps(quick))

    assert in_the_fork == (expected, [])
    assert pickled.url == quick.url
    assert digest(elements(pickled, 5)) == expected
    del pickled
    assert servers() == before
    assert digest(elements(quick, 5)) == expected  # neither copy has stopped the server


def test_a_fork_that_drops_its_copy_leaves_the_server() -> None:
    pipeline = RemotePipeline(latency_ms=0.0)
    server = started(pipeline)

    fork = os.fork()
    if not fork:
        del pipeline
        os._exit(0)
    os.waitpid(fork, 0)

    assert server in servers()
    assert len(elements(pipeline, 5)) == 5


def start_and_wait(answers: Connection) -> None:
    pipeline = RemotePipeline(latency_ms=0.0)
    server = started(pipeline)
    elements(pipeline, 1)
    fork = os.fork()  # outlives its parent and keeps all that it inherited
    if fork:
        answers.send((server.pid, fork))
    time.sleep(600.0)


def test_the_server_ends_with_a_parent_that_is_killed() -> None:
    ours, theirs = FORK.Pipe()
    parent = FORK.Process(target=start_and_wait, args=(theirs,))
    parent.start()
    assert ours.poll(ENDS_WITHIN_S)
    server, fork = ours.recv()
    try:
        assert psutil.Process(server).is_running()

        assert parent.pid is not None
        os.kill(parent.pid, signal.SIGKILL)

        assert ends(server)
        assert psutil.Process(fork).is_running()
    finally:
        os.kill(fork, signal.SIGKILL)
        parent.join(ENDS_WITHIN_S)  # after the fork, which holds open the pipe that join waits for


# The table


def test_an_epoch_has_each_row_of_the_file_once() -> None:
    pipeline = TabularPipeline()
    pipeline.prepare()
    file = cache.cache_folder() / tabular.FOLDER / tabular.FILE
    with closing(sqlite3.connect(file)) as database:
        stored = database.execute("SELECT * FROM biopsies ORDER BY rowid").fetchall()
    rows = [(*np.array(row[:-1], np.float32), row[-1]) for row in stored]

    got = [(*features, label) for features, label in pipeline.generate(7)]

    start = rows.index(got[0])
    assert len(got) == ROWS
    assert 0 < start < ROWS - 1
    assert got == rows[start:] + rows[:start]


def test_the_shards_of_an_epoch_fetch_their_own_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = TabularPipeline()
    whole = [digest(element) for element in pipeline.generate(7)]
    read, fetched = pd.read_sql_query, []

    def noting(*args: Any, **kwargs: Any) -> Iterator[pd.DataFrame]:
        for chunk in read(*args, **kwargs):
            fetched.append(len(chunk))
            yield chunk

    monkeypatch.setattr(pd, "read_sql_query", noting)
    for shard in range(3):
        fetched.clear()
        got = [digest(e) for e in pipeline.generate(7, shard_index=shard, shard_count=3)]

        assert got == whole[shard::3]
        assert sum(fetched) == len(got)


def test_the_map_standardises_with_what_the_file_says() -> None:
    pipeline = TabularPipeline()
    features = np.stack([row for row, _ in pipeline.generate(0)])

    scaled, _ = TabularPipeline().transform(tf.constant(features), tf.constant(0))

    np.testing.assert_allclose(np.mean(scaled, axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.std(scaled, axis=0), 1.0, atol=1e-2)


# The batches of a PyDataset


def test_batches_are_what_the_model_takes() -> None:
    batches = Batches(batch_size=32)

    images, labels = batches[0]

    assert images.shape == (32, 64, 64, 3)
    assert images.dtype == np.float32
    assert labels.shape == (32,)
    assert labels.dtype == np.int32
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert build_model()(images).shape == (32, 10)


def test_an_epoch_has_each_file_once_and_its_last_batch_is_smaller() -> None:
    batches = Batches(batch_size=32)

    sizes = [len(labels) for _, labels in batches]

    assert len(batches) == 4
    assert sizes == [32, 32, 32, 4]
    assert len({digest(image) for images, _ in batches for image in images}) == FILES


def test_epochs_differ_and_are_the_same_again() -> None:
    batches, again = Batches(batch_size=8, seed=1), Batches(batch_size=8, seed=1)
    first = digest(batches[0])

    batches.on_epoch_end()
    second = digest(batches[0])
    again.on_epoch_end()

    assert second != first
    assert digest(again[0]) == second
    assert digest(Batches(batch_size=8, seed=2)[0]) != first


def test_keras_runs_them_with_workers() -> None:
    seen: list[int] = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))

    build_model().fit(Batches(batch_size=32, workers=2), epochs=1, verbose=0, callbacks=[note])

    assert seen == [0, 1, 2, 3]
