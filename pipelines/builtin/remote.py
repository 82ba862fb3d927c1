"""Small images out of an object store: what a read costs is waiting, not computing."""

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
LATENCY_MS = 5.0  # what a store in the same data centre takes to its first byte, at its best
MAX_LATENCY_MS = 60_000.0
# On top of the latency: a server that takes longer hangs, and so would training, without a word.
READ_TIMEOUT_S = 10.0


class RemoteReadError(RuntimeError):
    """An object could not be read; the message says which one, from where, and why."""


class RemotePipeline(GeneratorPipeline):
    """32x32 grey images read one by one over HTTP, each after a wait, into a small MLP.

    Attributes:
        latency_ms: how long the server waits before it answers a read, in milliseconds.
        url: where the server listens, once `prepare` has started it. Forked and pickled copies
            carry it along and so read from the same server, which ends with this process or when
            this object is collected, whichever comes first; a copy never ends it.
    """

    name = "remote"
    element_spec = (tf.TensorSpec((SIDE, SIDE, 1), tf.float32), tf.TensorSpec((), tf.int32))
    batch_sizes = (16, 32, 64)

    def __init__(self, latency_ms: float | None = None) -> None:
        """`latency_ms` is 5 by default, or what PREFETCH_TUNING_REMOTE_LATENCY_MS says."""
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
        """Starts the server unless this object, or the one that it is a copy of, has done so."""
        if self.url is not None:
            return  # without the lock: a fork may have copied it while another thread held it
        with self._starting:
            if self.url is None:
                server, self.url = _start_server(self.latency_ms)
                weakref.finalize(self, _stop_server, server, os.getpid())

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields images of shape (32, 32, 1), float32 from 0 to 255, and labels from 0 to 9.

        Of `shard_count` shards, the one at `shard_index` reads only its own objects.

        Raises:
            RemoteReadError: a read failed; it is not tried again.
        """
        self.prepare()
        server = urlsplit(self.url or "").netloc
        timeout_s = READ_TIMEOUT_S + self.latency_ms / 1_000.0
        with contextlib.closing(http.client.HTTPConnection(server, timeout=timeout_s)) as store:
            for number in shuffled_epochs(OBJECTS, seed, shard_index, shard_count):
                body = _read(store, number)
                pixels = np.frombuffer(body, np.uint8, offset=1)
                yield pixels.reshape(SIDE, SIDE, 1).astype(np.float32), body[0]

    @tf.autograph.experimental.do_not_convert  # has no Python control flow: starts sooner
    def transform(self, *element: Any) -> Any:
        """Scales the pixels to [-1, 1]: float32 of the same shape out, the label untouched."""
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
    """`latency` in milliseconds.

    Raises:
        PipelineError: it is not a number, or no time that anyone would wait.
    """
    try:
        latency_ms = float(latency)
    except ValueError:
        latency_ms = math.nan
    if not 0.0 <= latency_ms <= MAX_LATENCY_MS:  # NaN is in no range
        raise PipelineError(
            f"the latency of remote reads is {latency!r}; give milliseconds from 0 to "
            f"{MAX_LATENCY_MS:g}, as in {LATENCY_VARIABLE}=5"
        )
    return latency_ms


def _read(store: http.client.HTTPConnection, number: int) -> bytes:
    """One object's body, over the connection that is kept from read to read."""
    place = f"object {number} from http://{store.host}:{store.port}"
    try:
        store.request("GET", f"/objects/{number}")
        response = store.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise RemoteReadError(
            f"cannot read {place}, its server may have stopped: {type(error).__name__}: {error}"
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
        PipelineError: it did not start; the message quotes the last that it said.
    """
    # -I and -S: neither this folder nor the virtual environment's is searched for modules.
    program = [sys.executable, "-I", "-S", str(Path(object_server.__file__))]
    # In this process's group, so that it is killed with a trial. It gets none of this process's
    # descriptors: whoever waits for one of them to be closed must not wait for the server.
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
        if not port.isdecimal():  # it says why instead, and has ended
            why = f"{port}\n{server.stdout.read()}".strip().splitlines()[-1:]
            server.wait()
            raise PipelineError(f"the object server did not start: {' '.join(why) or 'no reason'}")
    return server, f"http://{object_server.HOST}:{port}"


def _stop_server(server: subprocess.Popen[str], owner: int) -> None:
    """Ends the server if this process started it; in a fork's copy it is not ours to end."""
    if os.getpid() == owner:
        server.kill()  # it holds nothing that would have to be put away
        server.wait()
