"""The device that training steps run on, and its peak memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from prefetch_tuning.objectives.machine.device_memory import device_memory_line
from prefetch_tuning.objectives.machine.gpu import first_visible
from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.objectives.spec import Device
from prefetch_tuning.pipelines.script.session import is_inside_fit
from prefetch_tuning.pipelines.target import Target


class DeviceError(ValueError):
    """The requested device isn't there; the message says what to do."""


def device_for(target: str, wanted: Device) -> Device:
    """The device to select for a target: an emulated step runs on none, so it needs no GPU."""
    return wanted if Target.parse(target).step is None else "cpu"


def select_device_for(target: str, wanted: Device) -> str:
    """`select_device` for a target, whose step may be emulated.

    A script that has reached its `fit` may have chosen among the devices that it was left, and
    TensorFlow lets nobody change that any more.
    """
    if is_inside_fit():
        return _described(tf.config.get_visible_devices("GPU"))
    return select_device(device_for(target, wanted))


def select_device(wanted: Device) -> str:
    """Restricts TensorFlow to the device and returns its description, "cpu" or "gpu: NAME".

    Must come before anything else touches TensorFlow in this process.

    Raises:
        DeviceError: "gpu" was requested and TensorFlow sees none.
    """
    gpus = tf.config.list_physical_devices("GPU") if wanted != "cpu" else []
    if wanted == "gpu" and not gpus:
        raise DeviceError(f"--device gpu: {_why_no_gpu()}, or use --device cpu")
    if not gpus:
        tf.config.set_visible_devices([], "GPU")
        return "cpu"
    tf.config.set_visible_devices(gpus[:1], "GPU")
    # Without this, TensorFlow takes nearly all of the memory, no matter what the trial needs.
    tf.config.experimental.set_memory_growth(gpus[0], True)
    return _described(gpus)


def _described(gpus: Sequence[Any]) -> str:
    if not gpus:
        return "cpu"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"gpu: {details.get('device_name', gpus[0].name)}"


def _why_no_gpu() -> str:
    """Why TensorFlow sees no GPU, as far as this process can tell, and what to do about it."""
    if first_visible(os.environ) is None:
        hidden = os.environ["CUDA_VISIBLE_DEVICES"]
        return (
            f"CUDA_VISIBLE_DEVICES is {hidden!r} here: it hides every GPU from TensorFlow; unset it"
        )
    return (
        "TensorFlow sees no GPU here; check `nvidia-smi -L` and that tensorflow[and-cuda] is "
        "installed"
    )


def lacked_device_memory(error: Exception) -> bool:
    """Whether the error means that the GPU ran out of memory; always False on a CPU."""
    on_gpu = bool(tf.config.list_logical_devices("GPU"))
    return on_gpu and device_memory_line(str(error)) is not None


def reset_device_peak(device: str) -> None:
    """Resets the GPU's peak memory; does nothing on a CPU."""
    if device.startswith("gpu"):
        tf.config.experimental.reset_memory_stats("GPU:0")


def device_peak_mib(device: str) -> float | None:
    """Peak memory on the GPU in MiB; None on a CPU, where TensorFlow would report zero."""
    if not device.startswith("gpu"):
        return None
    return float(tf.config.experimental.get_memory_info("GPU:0")["peak"]) / MIB
