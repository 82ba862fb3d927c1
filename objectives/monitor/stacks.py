"""Finds where the Python code that feeds tf.data is at this moment.

TensorFlow runs generators and Python maps in its own threads. Their stacks begin in
tensorflow/python/ops/script_ops.py. Keras runs a PyDataset with several workers in a thread pool,
where the worker calls keras/src/trainers/data_adapters/py_dataset_adapter.py. Everything below such
a frame was called for the input pipeline. Nothing else in the process is looked at: a thread that
waits for work, and the training itself, have no such frame. TensorFlow isn't imported here.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import Literal

Role = Literal["generator", "map", "PyDataset"]

SCRIPT_OPS = "tensorflow.python.ops.script_ops"
FROM_GENERATOR = "tensorflow.python.data.ops.from_generator_op"
PY_DATASET = "keras.src.trainers.data_adapters.py_dataset_adapter"
# `fit(generator)` takes the first batch from the generator itself, before a tf.data thread does.
KERAS_GENERATOR = "keras.src.trainers.data_adapters.generator_data_adapter"
ENTRIES = frozenset({SCRIPT_OPS, PY_DATASET, KERAS_GENERATOR})

FRAMEWORKS = frozenset({"tensorflow", "keras"})
# Our own chain runs a user's generator, so its frames don't count as the user's.
OWN = "prefetch_tuning"
STDLIB = str(PurePath(os.__file__).parent)
PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})
MOST_FRAMES = 5
# A longer line of source would hide the rest of a message.
MOST_CHARACTERS = 100


@dataclass(frozen=True)
class Blocked:
    """What one thread does for the input pipeline.

    Attributes:
        where: the innermost frame of the user's code: "data.py:42 in read: chunk = sock.recv(n)".
        frames: at most five frames in the same words, oldest first. They end with `where`, and with
            the innermost frame of a library if the user's code called one.
        role: what the code is for. A PyDataset is one with any number of workers.
    """

    where: str
    frames: tuple[str, ...]
    role: Role


def blocked() -> list[Blocked]:
    """The threads that run Python code for the input pipeline now, one entry per thread.

    This is a snapshot, so it also shows code that computes. Code that is in the same place in
    several snapshots while no batch arrives is blocked. Other processes aren't looked at: with
    `use_multiprocessing`, or with `generator_workers`, the user's code isn't seen. A Python
    function that the model calls with `tf.numpy_function` looks like a map.
    """
    # The frames keep their variables alive, among them batches, so none is kept after this call.
    found = (_seen(frame) for frame in sys._current_frames().values())
    return [entry for entry in found if entry is not None]


def _seen(innermost: FrameType) -> Blocked | None:
    stack = list(_outwards(innermost))[::-1]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in stack]
    entry = next((i for i, module in enumerate(modules) if module in ENTRIES), None)
    if entry is None:
        return None
    stack, modules = stack[entry:], modules[entry:]
    owners = [_owner(frame, module) for frame, module in zip(stack, modules, strict=True)]
    at = _place(owners)
    if at is None:
        return None
    called = [i for i, owner in enumerate(owners[: at + 1]) if owner == owners[at]]
    shown = called[-MOST_FRAMES:]
    if owners[-1] != owners[at]:
        shown = [*called[1 - MOST_FRAMES :], len(stack) - 1]
    return Blocked(
        where=_words(stack[at]),
        frames=tuple(_words(stack[i]) for i in shown),
        role=_role(modules[:at]),
    )


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _place(owners: list[str]) -> int | None:
    """The index of the innermost frame of the user's code, or of what the user passed instead."""
    users = [i for i, owner in enumerate(owners) if owner == ""]
    if users:
        return users[-1]
    # A package's generator was passed to tf.data as it is. What this package calls, such as NumPy,
    # says less than where it calls it.
    package = next((owner for owner in owners if owner not in {*FRAMEWORKS, "stdlib"}), None)
    if package is not None:
        return max(i for i, owner in enumerate(owners) if owner == package)
    # An iterator of the standard library was passed as it is, such as iter(queue.get, None). But
    # Keras waits for its own workers in the standard library.
    if owners[-1] == "stdlib" and "keras" not in owners:
        return owners.index("stdlib")
    return None


def _owner(frame: FrameType, module: str) -> str:
    """Whose code it is: a framework, "stdlib", a package, or "" for the user."""
    top = module.partition(".")[0]
    if top in FRAMEWORKS or top == OWN:
        return top
    file = frame.f_code.co_filename
    # <__array_function__ internals> is NumPy's. A notebook's cells are <ipython-input-...>.
    if file.startswith(("<frozen", "<__array")):
        return "stdlib"
    folders = PurePath(file).parts
    if PACKAGE_FOLDERS.isdisjoint(folders):
        return "stdlib" if file.startswith(STDLIB + os.sep) else ""
    return top


def _role(modules: list[str]) -> Role:
    if PY_DATASET in modules:
        return "PyDataset"
    if FROM_GENERATOR in modules or KERAS_GENERATOR in modules:
        return "generator"
    return "map"


def _words(frame: FrameType) -> str:
    code = frame.f_code
    # Python 3.11 gives no line for some instructions.
    number = frame.f_lineno or code.co_firstlineno
    place = f"{PurePath(code.co_filename).name}:{number} in {code.co_name}"
    text = linecache.getline(code.co_filename, number, frame.f_globals).strip()
    if len(text) > MOST_CHARACTERS:
        text = text[: MOST_CHARACTERS - 3] + "..."
    return f"{place}: {text}" if text else place
