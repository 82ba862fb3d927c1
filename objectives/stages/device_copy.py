"""Batches on their way to an accelerator: the cost of the copy, and steps on copied batches.

On a CPU there is no copy. The device is an argument, so a CPU can stand in for a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import tensorflow as tf

from prefetch_tuning.objectives.loop.ceilings import Alone
from prefetch_tuning.pipelines.chain.build import pinned_options

# Batches that are copied ahead of the step: as many as the search offers.
AHEAD = 2


def accelerator(batch_spec: Any) -> str | None:
    """The GPU that batches of this spec are copied to; None if they stay in host memory.

    They stay there on a CPU, and if a part of them can't be on a GPU, such as strings.
    """
    gpus = tf.config.list_logical_devices("GPU")
    return gpus[0].name if gpus and can_be_copied(batch_spec) else None


def can_be_copied(batch_spec: Any) -> bool:
    """Whether every part of such a batch is a plain tensor of numbers."""
    return all(
        isinstance(spec, tf.TensorSpec) and (spec.dtype.is_bool or _is_number(spec.dtype))
        for spec in tf.nest.flatten(batch_spec)
    )


def _is_number(dtype: tf.DType) -> bool:
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_complex)


def on_device(batch: Any, device: str) -> Any:
    """The batch on the device; int32 stays in host memory, where TensorFlow's steps expect it."""
    with tf.device(device):
        return tf.nest.map_structure(tf.identity, batch)


def copying(batch: Any, examples: int, device: str) -> Alone:
    """A feed for `steady_state` that copies a batch of `examples` to the device repeatedly."""
    leaves = tf.nest.flatten(batch)

    def copy(_: Any) -> None:
        for leaf in leaves:
            # A private method, because nothing public copies every time: from its second call on,
            # `tf.identity` under `tf.device` returns the copy that the tensor caches of itself.
            leaf._copy_to_device(device)

    return Alone(examples, repeat(batch).__next__, copy, tf.test.experimental.sync_devices)


def ready_on_device(batches: Sequence[Any], batch_spec: Any, device: str) -> tf.data.Dataset:
    """Batches that are ready in host memory, repeated endlessly and copied ahead of the step."""
    ready = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=batch_spec)
    ready = ready.cache().repeat().with_options(pinned_options())
    # Last, as in `build_dataset`: a later stage would bring the batches back to the host.
    return ready.apply(tf.data.experimental.prefetch_to_device(device, AHEAD))
