"""Small images from an object store. A read costs waiting, not computing."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.builtin.support import object_server
from prefetch_tuning.pipelines.builtin.support.cache import shuffled_epochs
from prefetch_tuning.pipelines.builtin.support.object_server import (
    CLASSES,
    OBJECT_BYTES,
    OBJECTS,
    SIDE,
)
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

LATENCY_VARIABLE = "PREFETCH_TUNING_REMOTE_LATENCY_MS"
LATENCY_MS = 5.0  # the best time to first byte of a store in the same data centre
MAX_LATENCY_MS = 60_000.0
# Added to the latency. A server that takes longer hangs, and training would hang silently with it.
READ_TIMEOUT_S = 10.0


class RemoteReadError(RuntimeError):
    """An object could not be read; the message says which one, from where, and why."""


class RemotePipeline(GeneratorPipeline):
    """32x32 grey images read one by one over HTTP, each after a wait, into a small MLP.

    Attributes:
        latency_ms: how long the server waits before it answers a read, in milliseconds.
        url: where the server listens, once `prepare` has started it. Forked and pickled copies
            keep it, so they read from the same server. The server ends with this process or when
            this object is garbage-collected, whichever comes first. A copy never ends it.
    """

    name = "remote"
    element_spec = (tf.TensorSpec((SIDE, SIDE, 1), tf.float32), tf.TensorSpec((), tf.int32))
    batch_sizes = (16, 32, 64)

    def __init__(self, latency_ms: float | None = None) -> None:
        """`latency_ms` defaults to PREFETCH_TUNING_REMOTE_LATENCY_MS, or to 5 if that isn't set."""
        self.latency_ms = _checked(
            os.environ.get(LATENCY_VARIABLE, LATENCY_MS) if latency_ms is None else latency_ms
        )
        self.url: str | None = None
        self._starting = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"latency_ms": self.latency_ms, "url": self.url}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _starting=threading.Lock())

    def prepare(self) -> None:
        """Starts the server, unless this object or the one that it was copied from has done so."""
        # Checked without the lock, which a fork may have copied while another thread held it.
        if self.url is not None:
            return
        with self._starting:
            if self.url is None:
                server, self.url = _start_server(self.latency_ms)
                weakref.finalize(self, _stop_server, server, os.getpid())

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields images of shape (32, 32, 1), float32 from 0 to 255, and labels from 0 to 9.

        The shard at `shard_index` of `shard_count` reads only its own objects.

        Raises:
            RemoteReadError: a read failed; it isn't retried.
        """
        self.prepare()
        server = urlsplit(self.url or "").netloc
        timeout_s = READ_TIMEOUT_S + self.latency_ms / 1_000.0
        with contextlib.closing(http.client.HTTPConnection(server, timeout=timeout_s)) as store:
            for number in shuffled_epochs(OBJECTS, seed, shard_index, shard_count):
                body = _read(store, number)
                pixels = np.frombuffer(body, np.uint8, offset=1)
                yield pixels.reshape(SIDE, SIDE, 1).astype(np.float32), body[0]

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
    def transform(self, *element: Any) -> Any:
        """Scales the pixels to [-1, 1], float32 of the same shape; keeps the label."""
        image, label = element
        return image / 127.5 - 1.0, label

    def build_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(CLASSES),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        return model


def _checked(latency: float | str) -> float:
    """Returns `latency` in milliseconds.

    Raises:
        PipelineError: it is not a number, or not from 0 to MAX_LATENCY_MS.
    """
    try:
        latency_ms = float(latency)
    except ValueError:
        latency_ms = math.nan
    if not 0.0 <= latency_ms <= MAX_LATENCY_MS:  # also true for NaN
        raise PipelineError(
            f"the latency of remote reads is {latency!r}; give milliseconds from 0 to "
            f"{MAX_LATENCY_MS:g}, as in {LATENCY_VARIABLE}=5"
        )
    return latency_ms


def _read(store: http.client.HTTPConnection, number: int) -> bytes:
    """Reads one object's body over the connection, which stays open between reads."""
    place = f"object {number} from http://{store.host}:{store.port}"
    try:
        store.request("GET", f"/objects/{number}")
        response = store.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RemoteReadError(
            f"cannot read {place}; its server may have stopped: {type(error).__name__}: {error}"
        ) from error
    if response.status != http.HTTPStatus.OK or len(body) != OBJECT_BYTES:
        raise RemoteReadError(
            f"cannot read {place}: the server answered {response.status} {response.reason} with "
            f"{len(body)} bytes instead of {OBJECT_BYTES}"
        )
    return body


def _start_server(latency_ms: float) -> tuple[subprocess.Popen[str], str]:
    """Starts the server as a child of this process and returns it with its URL.

    Raises:
        PipelineError: the server did not start; the message quotes its last line of output.
    """
    # With -I and -S, Python searches neither this folder nor the virtual environment's for modules.
    program = [sys.executable, "-I", "-S", str(Path(object_server.__file__))]
    # The server is in this process's group, so it is killed with a trial. It inherits none of this
    # process's descriptors: a process that waits until one is closed must not wait for the server.
    server = subprocess.Popen(
        [*program, str(os.getpid()), repr(latency_ms)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert server.stdout is not None
    with server.stdout:
        port = server.stdout.readline().strip()
        if not port.isdecimal():  # the server has written the reason instead, and ended
            why = f"{port}\n{server.stdout.read()}".strip().splitlines()[-1:]
            server.wait()
            raise PipelineError(
                f"the object server did not start: {' '.join(why) or 'it gave no reason'}"
            )
    return server, f"http://{object_server.HOST}:{port}"


def _stop_server(server: subprocess.Popen[str], owner: int) -> None:
    """Ends the server if this process started it; a forked copy must not end it."""
    if os.getpid() == owner:
        server.kill()  # it has no state to save
        server.wait()
