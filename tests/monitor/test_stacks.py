"""Where the Python code of real pipelines is blocked, and that an idle pipeline shows nothing."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.monitor.stacks import Blocked, blocked

SCALAR = tf.TensorSpec((), tf.float32)
# A test that waits longer than this has failed.
MOST_S = 30.0


class Gate:
    """Blocks the code that passes it, with two frames of its own, until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._inside = threading.Semaphore(0)

    def enter(self) -> None:
        self._inside.release()
        self._open.wait(MOST_S)

    def reached(self, threads: int) -> None:
        for _ in range(threads):
            assert self._inside.acquire(timeout=MOST_S)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.open()


@contextmanager
def running(gate: Gate, run: Callable[[], object]) -> Iterator[None]:
    """Runs it in a thread. Opens the gate and waits for the thread in any case."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        gate.open()
        thread.join(MOST_S)
        assert not thread.is_alive()


def first_of(dataset: tf.data.Dataset) -> Callable[[], object]:
    return lambda: next(iter(dataset))


def settled(expected: int) -> list[Blocked]:
    """What is found once the threads are past the gate's first line."""
    end = time.monotonic() + MOST_S
    while time.monotonic() < end:
        found = blocked()
        if len(found) == expected and all("_open.wait" in entry.where for entry in found):
            return found
        time.sleep(0.01)
    raise AssertionError(blocked())


def test_a_generator_is_found_in_its_innermost_function(gate: Gate) -> None:
    def read() -> float:
        gate.enter()
        return 1.0

    def generate() -> Iterator[float]:
        yield read()

    dataset = tf.data.Dataset.from_generator(generate, output_signature=SCALAR).batch(1)
    with running(gate, first_of(dataset.prefetch(2))):
        gate.reached(1)
        (found,) = settled(1)
    assert found.role == "generator"
    assert found.where.startswith("test_stacks.py:")
    assert found.where.endswith(" in enter: self._open.wait(MOST_S)")
    shown = [frame.split(" in ")[1] for frame in found.frames]
    assert shown[:2] == ["generate: yield read()", "read: gate.enter()"]
    assert found.frames[2] == found.where
    assert found.frames[3].startswith("threading.py:")
    assert len(found.frames) == 4


@pytest.mark.parametrize("op", ["numpy_function", "py_function"])
def test_each_call_of_a_python_map_is_found(gate: Gate, op: str) -> None:
    def double(x: Any) -> Any:
        gate.enter()
        return x

    function = getattr(tf, op)
    dataset = tf.data.Dataset.range(4).map(
        lambda x: function(double, [x], tf.int64), num_parallel_calls=2
    )
    with running(gate, first_of(dataset)):
        gate.reached(2)
        found = settled(2)
    assert {entry.role for entry in found} == {"map"}
    assert {entry.frames[0].split(" in ")[1] for entry in found} == {"double: gate.enter()"}


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """Twelve batches. Those from the fifth on wait at the gate, if there is one."""

    def __init__(self, gate: Gate | None, workers: int) -> None:
        super().__init__(workers=workers, max_queue_size=2)
        self.gate = gate

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        # Keras reads the first ones before the training, to see their shapes.
        if self.gate is not None and index >= 4:
            self.gate.enter()
        return np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)


def small_model() -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model


@pytest.mark.parametrize("workers", [1, 2])
def test_the_workers_of_a_pydataset_are_found(gate: Gate, workers: int) -> None:
    model = small_model()
    data = Batches(gate, workers)
    with running(gate, lambda: model.fit(data, verbose=0, shuffle=False)):
        gate.reached(workers)
        # With two workers, the thread that waits for them isn't blocked in the user's code.
        found = settled(workers)
    assert {entry.role for entry in found} == {"PyDataset"}
    assert {entry.frames[0].split(" in ")[1] for entry in found} == {
        "__getitem__: self.gate.enter()"
    }


def test_a_generator_passed_to_fit_is_found(gate: Gate) -> None:
    def generate() -> Iterator[tuple[Any, Any]]:
        for index in range(12):
            if index >= 4:
                gate.enter()
            yield np.zeros((2, 1), np.float32), np.zeros((2, 1), np.float32)

    model = small_model()
    with running(gate, lambda: model.fit(generate(), steps_per_epoch=12, shuffle=False, verbose=0)):
        gate.reached(1)
        (found,) = settled(1)
    assert found.role == "generator"


def test_an_iterator_of_the_standard_library_is_found_itself(gate: Gate) -> None:
    items: queue.Queue[float | None] = queue.Queue()
    dataset = tf.data.Dataset.from_generator(lambda: iter(items.get, None), output_signature=SCALAR)
    with running(gate, lambda: list(dataset)):
        try:
            end = time.monotonic() + MOST_S
            while not (found := blocked()) and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            items.put(None)
    assert [entry.role for entry in found] == ["generator"]
    assert found[0].where.startswith("queue.py:")


def test_a_pipeline_with_full_buffers_shows_nothing() -> None:
    made = 0

    def generate() -> Iterator[float]:
        nonlocal made
        while True:
            made += 1
            yield 1.0

    dataset = tf.data.Dataset.from_generator(generate, output_signature=SCALAR).prefetch(3)
    iterator = iter(dataset)
    next(iterator)
    end = time.monotonic() + MOST_S
    while made < 4 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # the last element is on its way into the buffer
    assert made == 4
    assert blocked() == []


class Pause(keras.callbacks.Callback):  # type: ignore[misc]
    """Lets the buffers fill during a step, then looks."""

    found: list[Blocked] | None = None

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if batch == 1:
            time.sleep(1.0)
            self.found = blocked()


@pytest.mark.parametrize("workers", [1, 2])
def test_idle_workers_of_a_pydataset_show_nothing(workers: int) -> None:
    pause = Pause()
    data = Batches(None, workers)
    small_model().fit(data, verbose=0, shuffle=False, callbacks=[pause])
    assert pause.found == []


def test_looking_is_cheap() -> None:
    begin = time.process_time()
    for _ in range(100):
        blocked()
    assert (time.process_time() - begin) / 100 < 0.005


def test_the_standard_library_is_where_os_is() -> None:
    from prefetch_tuning.objectives.monitor.stacks import STDLIB

    assert threading.__file__.startswith(STDLIB + os.sep)
