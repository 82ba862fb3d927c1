"""Stops a script at its first `fit` on data from Python, and says what it was called with."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from types import GeneratorType
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.script.recorder import Record, record_of, recording

# Arguments that `fit` gets in place of its own; empty to leave it as it is.
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class FitCall:
    """A call of `fit` on data that goes back to Python.

    Attributes:
        model: the compiled model.
        data: what `fit` was given: a dataset, a PyDataset or a Python generator.
        record: how the dataset was made; None for the other two.
        arguments: all arguments that the script gave, by parameter.
        reached_s: seconds from the script's beginning to this call.
    """

    model: Any
    data: Any
    record: Record | None
    arguments: Mapping[str, Any]
    reached_s: float = 0.0


@contextmanager
def watching(number: int, reached: Callable[[FitCall], Changes]) -> Iterator[None]:
    """Calls `reached` at the `number`th such `fit`, which counts from 1; the others run.

    Datasets are recorded up to that call. If `reached` returns, `fit` runs with its changes.
    """
    original = keras.Model.fit
    signature = inspect.signature(original)
    recorder = recording()
    seen, stopped, began = 0, False, time.monotonic()

    @wraps(original)
    def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        arguments = dict(signature.bind(model, *args, **kwargs).arguments)
        arguments.pop("self")
        call = _from_python(model, arguments)
        seen += call is not None
        if call is None or seen != number:
            return original(model, **arguments)
        stop()
        call = replace(call, reached_s=time.monotonic() - began)
        return original(model, **{**arguments, **reached(call)})

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            recorder.__exit__(None, None, None)
            del keras.Model.fit  # the inherited one is there again

    recorder.__enter__()
    keras.Model.fit = fit
    try:
        yield
    finally:
        stop()


def _from_python(model: Any, arguments: Mapping[str, Any]) -> FitCall | None:
    """The call, if its data comes from Python code; None for arrays and other datasets."""
    data = arguments.get("x")
    record = record_of(data) if isinstance(data, tf.data.Dataset) else None
    if record is None and not isinstance(data, keras.utils.PyDataset | GeneratorType):
        return None
    return FitCall(model, data, record, arguments)
