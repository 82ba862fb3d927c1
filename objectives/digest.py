"""Digests of data: whether two trials saw the same elements and the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf


def digest(structures: Iterable[Any]) -> str:
    """SHA-256 over nested elements or batches: order, dtype, shape and bytes of every tensor."""
    total = hashlib.sha256()
    for structure in structures:
        for leaf in tf.nest.flatten(structure, expand_composites=True):
            array = as_array(leaf)
            total.update(f"{array.dtype.str}{array.shape}".encode())
            # Strings come as an array of bytes objects, whose own bytes would be addresses.
            content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            total.update(content)
    return total.hexdigest()


def nbytes(structure: Any) -> int:
    """Bytes of all tensors of a nested batch; strings count by their length."""
    total = 0
    for leaf in tf.nest.flatten(structure, expand_composites=True):
        array = as_array(leaf)
        if array.dtype == object:
            total += sum(len(item) for item in array.ravel())
        else:
            total += array.nbytes
    return total


def as_array(leaf: Any) -> np.ndarray:
    """A tensor as an array; strings as objects, also a single one, which comes as bare bytes."""
    tensor = tf.convert_to_tensor(leaf)
    return np.asarray(tensor.numpy(), dtype=object if tensor.dtype == tf.string else None)
