"""What went wrong in a trial, by its exception and by the part that raised it."""

from __future__ import annotations

import re

import tensorflow as tf

from prefetch_tuning.objectives.loop.training import NotFiniteLossError, StepError
from prefetch_tuning.objectives.machine.device import DeviceError
from prefetch_tuning.objectives.machine.device_memory import device_memory_line
from prefetch_tuning.objectives.measurement import FailureKind, TrialFailure
from prefetch_tuning.pipelines.source import PipelineError

# What tf.data says of an element that doesn't fit its spec, which the generator itself never sees.
YIELDED = "`generator` yielded"
# An exception of Python code in TensorFlow's message, as Python prints it; its module is left out.
PYTHON_ERROR = re.compile(r"^(?:[a-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception): .+)$", re.MULTILINE)


def failure_of(
    error: Exception, stage: FailureKind, in_generator: Exception | None, device: str
) -> TrialFailure:
    """Names what went wrong, by the exception, or otherwise by the stage that it came from.

    Args:
        error: what the trial raised.
        stage: the part of the trial that was at work.
        in_generator: what the generator raised, which reaches the trial only as a message.
        device: "cpu" or "gpu: MODEL".
    """
    kind, cause = stage, in_generator
    if isinstance(error, StopIteration | tf.errors.OutOfRangeError):
        error = PipelineError("the generator ended without filling a single batch")
    if isinstance(error, StepError) and isinstance(error.__cause__, Exception):
        kind, error, cause = "model", error.__cause__, None
    if isinstance(error, PipelineError | DeviceError):
        kind = "usage"
    elif isinstance(error, NotFiniteLossError):
        kind = "nan_loss"
    elif cause is None and _lacks_device_memory(error, device):
        kind = "device_oom"
    elif isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        kind = "out_of_memory"
    elif cause is None and YIELDED in str(error):
        kind = "generator"
    elif cause is not None:
        kind = "out_of_memory" if isinstance(cause, MemoryError) else "generator"
    return TrialFailure(kind=kind, detail=quote(cause or error))


def _lacks_device_memory(error: Exception, device: str) -> bool:
    """Whether the GPU didn't have enough memory for this trial."""
    return (
        device.startswith("gpu")
        and isinstance(error, tf.errors.OpError)
        and device_memory_line(str(error)) is not None
    )


def quote(error: Exception) -> str:
    """An error's message, in one line."""
    if isinstance(error, PipelineError | DeviceError | NotFiniteLossError):
        return str(error)
    first = str(error).strip().split("\n")[0]
    if isinstance(error, tf.errors.OpError):
        # The first line is often "Graph execution error:". Further down is the line that says that
        # memory ran out, or the error of the Python code in the graph.
        line = device_memory_line(str(error))
        inner = None if line else PYTHON_ERROR.search(str(error))
        if inner is not None:
            return inner[1]
        first = line or first
    return f"{type(error).__name__}: {first}"
