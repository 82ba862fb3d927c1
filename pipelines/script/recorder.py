"""Records how a script makes its datasets, by wrapping the methods of `tf.data.Dataset`."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# Private imports, on purpose. `do_not_convert` would also switch autograph off for the functions
# that a script gives to `map`, and TensorFlow shows nowhere which seed it draws for a shuffle.
from tensorflow.python.autograph.impl.api import autograph_artifact
from tensorflow.python.eager import context

from prefetch_tuning.pipelines.chain.transformations import Transformation

# A dataset that goes back to a Python generator carries its record in this attribute.
RECORD = "_prefetch_tuning_record"
# Methods that return no dataset of the same elements' chain, or that our own code calls.
NOT_RECORDED = {"options", "as_numpy_iterator", "cardinality", "reduce", "save", "fingerprint"}
LIBRARY = str(Path(tf.__file__).parent)
HERE = str(Path(__file__))


@dataclass(frozen=True)
class Record:
    """How a dataset was made from a Python generator.

    Attributes:
        generator: what the script gave to `from_generator`; called for each pass.
        element_spec: nested `tf.TypeSpec` of its elements.
        calls: the methods that were called from there on.
        place: the file and line of `from_generator`.
    """

    generator: Callable[[], Any]
    element_spec: Any
    place: str
    calls: tuple[Transformation, ...] = ()


def record_of(dataset: Any) -> Record | None:
    """How a dataset was made; None if it doesn't go back to a Python generator."""
    found: Record | None = getattr(dataset, RECORD, None)
    return found


@contextmanager
def recording() -> Iterator[None]:
    """Records every dataset that is made in the meantime.

    The methods of TensorFlow and Keras call each other, and a map's function may make datasets of
    its own. Only calls from outside count.
    """
    inside = threading.local()
    methods = dict(_methods())
    generated = tf.data.Dataset.__dict__["from_generator"]
    for name, method in methods.items():
        setattr(tf.data.Dataset, name, _recorded(name, method, inside))
    wrapped = _recorded_source(tf.data.Dataset.from_generator, inside)
    tf.data.Dataset.from_generator = staticmethod(wrapped)
    try:
        yield
    finally:
        tf.data.Dataset.from_generator = generated
        for name, method in methods.items():
            setattr(tf.data.Dataset, name, method)


def _methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, member in vars(tf.data.Dataset).items():
        if inspect.isfunction(member) and not name.startswith("_") and name not in NOT_RECORDED:
            yield name, member


def _recorded(name: str, method: Callable[..., Any], inside: Any) -> Any:
    signature = inspect.signature(method)

    @autograph_artifact
    @wraps(method)
    def call(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        record = record_of(dataset)
        if record is None or getattr(inside, "active", False):
            return method(dataset, *args, **kwargs)
        arguments = dict(signature.bind(dataset, *args, **kwargs).arguments)
        del arguments[next(iter(arguments))]  # the dataset itself
        if name == "shuffle":
            arguments |= _seeded(arguments)
        with _inside(inside):
            made = method(dataset, **arguments)
        if isinstance(made, tf.data.Dataset):
            transformation = Transformation(name, arguments, _place())
            setattr(made, RECORD, replace(record, calls=(*record.calls, transformation)))
        return made

    return call


def _recorded_source(method: Callable[..., Any], inside: Any) -> Any:
    signature = inspect.signature(method)

    @autograph_artifact
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _inside(inside):
            made = method(*args, **kwargs)
        if tf.executing_eagerly():
            given = signature.bind(*args, **kwargs).arguments
            generator = given["generator"]
            if given.get("args"):
                generator = partial(generator, *map(np.asarray, given["args"]))
            setattr(made, RECORD, Record(generator, made.element_spec, _place()))
        return made

    return call


def _seeded(arguments: dict[str, Any]) -> dict[str, Any]:
    """The seed that an unseeded shuffle draws under a global seed, so a replay has the same."""
    if arguments.get("seed") is not None or context.global_seed() is None:
        return {}
    return {"seed": context.internal_operation_seed()}


@contextmanager
def _inside(inside: Any) -> Iterator[None]:
    before = getattr(inside, "active", False)
    inside.active = True
    try:
        yield
    finally:
        inside.active = before


def _place() -> str:
    """The nearest file and line outside TensorFlow and this file, like "train.py:41"."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(LIBRARY) and file not in (HERE, "<string>"):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""
