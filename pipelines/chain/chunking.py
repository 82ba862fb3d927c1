"""Stacks a generator's elements into blocks of NumPy arrays, and unstacks them again.

A block is a flat list of arrays. A component of known size becomes one array, stacked along a new
first dimension. A component whose first dimension is unknown becomes two arrays: its rows,
concatenated, and their lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

Block = list[np.ndarray]


def why_not_chunked(element_spec: Any) -> str | None:
    """Why elements of this spec can't be stacked into blocks; None if they can."""
    for spec in tf.nest.flatten(element_spec):
        if not isinstance(spec, tf.TensorSpec):
            return "its elements are ragged or sparse"
        if spec.shape.rank is None:
            return "an element's number of dimensions is unknown"
        if not spec.shape[1:].is_fully_defined():
            return "a dimension other than an element's first is unknown"
    return None


def blocks(elements: Iterator[Any], element_spec: Any, size: int) -> Iterator[Block]:
    """Yields the elements in blocks of `size`; the last block has the rest."""
    while chunk := list(islice(elements, size)):
        yield stack(chunk, element_spec)


def stack(elements: Sequence[Any], element_spec: Any) -> Block:
    """Stacks all elements into one block.

    Raises:
        TypeError, ValueError: an element doesn't match `element_spec`.
    """
    block: Block = []
    specs = tf.nest.flatten(element_spec)
    for spec, column in zip(specs, _columns(elements, element_spec), strict=True):
        dtype = _dtype(spec)
        if _is_ragged(spec):
            rows = [np.asarray(row, dtype) for row in column]
            block += [np.concatenate(rows), np.array([len(row) for row in rows], np.int64)]
        else:
            block.append(_stacked(column, dtype, spec))
    return block


def unstack(block: Block, element_spec: Any) -> Iterator[Any]:
    """Yields the elements of a block, as arrays in the structure of `element_spec`."""
    columns: list[Any] = []
    arrays = iter(block)
    for spec in tf.nest.flatten(element_spec):
        array = next(arrays)
        if _is_ragged(spec):
            columns.append(np.split(array, np.cumsum(next(arrays))[:-1]))
        else:
            columns.append(array)
    if is_flat(element_spec):
        yield from zip(*columns, strict=True)
        return
    for leaves in zip(*columns, strict=True):
        yield tf.nest.pack_sequence_as(element_spec, leaves)


def rows(block: Block, element_spec: Any) -> int:
    """The number of elements in a block."""
    first = tf.nest.flatten(element_spec)[0]
    return len(block[1] if _is_ragged(first) else block[0])


def interleave(parts: Sequence[Block], element_spec: Any) -> Block:
    """Merges parts: the first element of every part, then the second of every part, and so on.

    A single part is returned as it is. A part may be one element shorter than the part before it,
    as in shards of a finite stream.
    """
    if len(parts) == 1:
        return parts[0]
    ragged = any(_is_ragged(spec) for spec in tf.nest.flatten(element_spec))
    if not ragged and len({len(part[0]) for part in parts}) == 1:
        together = (np.stack(arrays, axis=1) for arrays in zip(*parts, strict=True))
        return [array.reshape(-1, *array.shape[2:]) for array in together]
    rows = [list(unstack(part, element_spec)) for part in parts]
    longest = max(len(part) for part in rows)
    in_turn = [part[i] for i in range(longest) for part in rows if i < len(part)]
    return stack(in_turn, element_spec)


def block_spec(element_spec: Any) -> tuple[tf.TensorSpec, ...]:
    """The spec of a block, as `from_generator` expects it."""
    specs: list[tf.TensorSpec] = []
    for spec in tf.nest.flatten(element_spec):
        if _is_ragged(spec):
            specs += [
                tf.TensorSpec(spec.shape, spec.dtype),
                tf.TensorSpec((None,), tf.int64),
            ]
        else:
            specs.append(tf.TensorSpec((None, *spec.shape), spec.dtype))
    return tuple(specs)


def batch_of(element_spec: Any, *block: tf.Tensor) -> Any:
    """Turns a block's tensors into one batch like `element_spec`, ragged where sizes vary."""
    tensors = iter(block)
    leaves = []
    for spec in tf.nest.flatten(element_spec):
        tensor = next(tensors)
        if _is_ragged(spec):
            tensor = tf.RaggedTensor.from_row_lengths(tensor, next(tensors), validate=False)
        leaves.append(tensor)
    return tf.nest.pack_sequence_as(element_spec, leaves)


def _is_ragged(spec: tf.TensorSpec) -> bool:
    return bool(spec.shape.rank) and spec.shape[0] is None


def is_flat(element_spec: Any) -> bool:
    """Whether elements are plain tuples, which need no Python code per element."""
    plain = isinstance(element_spec, tuple) and not hasattr(element_spec, "_fields")
    return plain and all(isinstance(spec, tf.TensorSpec) for spec in element_spec)


def _dtype(spec: tf.TensorSpec) -> Any:
    return object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype


def _columns(elements: Sequence[Any], element_spec: Any) -> Sequence[Sequence[Any]]:
    """The elements' leaves, by component. Flat structures need no Python code per element."""
    if isinstance(element_spec, tf.TensorSpec):
        return [elements]
    if is_flat(element_spec):
        return list(zip(*elements, strict=True))
    return list(zip(*(_leaves(element, element_spec) for element in elements), strict=True))


def _leaves(element: Any, spec: Any) -> list[Any]:
    """The leaves of one element.

    As in tf.data, only tuples and dicts are structure, and a dict is ordered by its sorted keys.
    """
    if isinstance(spec, dict):
        return [leaf for key in sorted(spec) for leaf in _leaves(element[key], spec[key])]
    if isinstance(spec, tuple):
        pairs = zip(element, spec, strict=True)
        return [leaf for part, inner in pairs for leaf in _leaves(part, inner)]
    return [element]


def _stacked(column: Sequence[Any], dtype: Any, spec: tf.TensorSpec) -> np.ndarray:
    if dtype is not object:
        return np.asarray(column, dtype)
    # NumPy would unpack nested lists of strings beyond the element's own dimensions.
    array = np.empty((len(column), *spec.shape), object)
    for row, value in enumerate(column):
        array[row] = np.asarray(value, object)[()]
    return array
