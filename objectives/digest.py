"""Digests of data: they tell whether two trials saw the same elements and the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

SHORT = 16


def digest(structures: Iterable[Any]) -> str:
    """SHA-256 over nested elements or batches: order, dtype, shape and bytes of every tensor."""
    total = hashlib.sha256()
    for structure in structures:
        for leaf in tf.nest.flatten(structure, expand_composites=True):
            array = as_array(leaf)
            total.update(f"{array.dtype.str}{array.shape}".encode())
            # Strings are an array of bytes objects; its own bytes would be memory addresses.
            total.update(repr(array.tolist()).encode() if array.dtype == object else _bytes(array))
    return total.hexdigest()


def short_digest(batch: Any) -> str:
    """The first 16 hex digits of a batch's `digest`: many are kept, and forgery isn't a concern."""
    return digest([batch])[:SHORT]


def nbytes(structure: Any) -> int:
    """Bytes of all tensors of a nested batch; a string counts by its length."""
    total = 0
    for leaf in tf.nest.flatten(structure, expand_composites=True):
        array = as_array(leaf)
        if array.dtype == object:
            total += sum(len(item) for item in array.ravel())
        else:
            total += array.nbytes
    return total


def _bytes(array: np.ndarray) -> memoryview:
    """The array's own memory as bytes; a copy would count as the trial's memory."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def as_array(leaf: Any) -> np.ndarray:
    """A tensor as an array; strings become objects, even a scalar, which arrives as bare bytes."""
    tensor = tf.convert_to_tensor(leaf)
    return np.asarray(tensor.numpy(), dtype=object if tensor.dtype == tf.string else None)
