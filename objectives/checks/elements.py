"""Checks elements against their spec, before and after the map, and puts specs into words."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import tensorflow as tf

from prefetch_tuning.pipelines.source import (
    GeneratorPipeline,
    PipelineError,
    has_transform,
)

ANSI = re.compile(r"\x1b\[[0-9;]*m")


KERAS_PREFIX = "Exception encountered when calling"


def first_elements(pipeline: GeneratorPipeline, seed: int, count: int) -> list[Any]:
    """The bare generator's first elements, as tensors in the structure of `element_spec`.

    Raises:
        PipelineError: the generator raised, an element doesn't match, or there is no element.
    """
    spec = pipeline.element_spec
    elements: list[Any] = []
    try:
        for element in islice(pipeline.generate(seed), count):
            where = f"pipeline {pipeline.name!r}: element {len(elements)}"
            elements.append(_check_element(where, element, spec))
    except PipelineError:
        raise
    except Exception as error:
        raise PipelineError(
            f"pipeline {pipeline.name!r}: generate({seed}) raised {type(error).__name__} at "
            f"element {len(elements)}: {first_line(error)}"
        ) from error
    if not elements:
        raise PipelineError(
            f"pipeline {pipeline.name!r}: generate({seed}) ended without yielding an element"
        )
    return elements


def check_transform(pipeline: GeneratorPipeline, element: Any) -> Any:
    """The spec of an element after the map, which is run once on a real element.

    A dimension that is unknown before the map is unknown after it, whatever this element has.

    Raises:
        PipelineError: the map raised.
    """
    if not has_transform(pipeline):
        return pipeline.element_spec
    try:
        for _ in tf.data.Dataset.from_tensors(element).map(pipeline.transform):
            pass
        unread = tf.data.Dataset.from_generator(
            lambda: iter(()), output_signature=pipeline.element_spec
        )
        return unread.map(pipeline.transform).element_spec
    except Exception as error:
        raise PipelineError(
            f"pipeline {pipeline.name!r}: transform failed on the first element: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def spec_source(spec: Any) -> str:
    """An element spec as Python source that needs only `tf` to make an equal spec."""
    if isinstance(spec, dict):
        return "{" + ", ".join(f"{key!r}: {spec_source(spec[key])}" for key in spec) + "}"
    if isinstance(spec, tuple):
        parts = [spec_source(part) for part in spec]
        return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    if isinstance(spec, tf.RaggedTensorSpec):
        return f"tf.RaggedTensorSpec({shape}, tf.{spec.dtype.name}, {spec.ragged_rank})"
    kind = "SparseTensorSpec" if isinstance(spec, tf.SparseTensorSpec) else "TensorSpec"
    return f"tf.{kind}({shape}, tf.{spec.dtype.name})"


def _check_element(where: str, element: Any, spec: Any) -> Any:
    """`element` as tensors, in the structure of `spec`.

    As in tf.data, only tuples and dicts are structure. A list is the values of one tensor.
    """
    if isinstance(spec, dict):
        if not isinstance(element, dict) or element.keys() != spec.keys():
            raise _structure_error(where, element, spec)
        return {key: _check_element(f"{where}[{key!r}]", element[key], spec[key]) for key in spec}
    if isinstance(spec, tuple):
        if not isinstance(element, tuple) or len(element) != len(spec):
            raise _structure_error(where, element, spec)
        parts = zip(spec, element, strict=True)
        return tuple(_check_element(f"{where}[{i}]", e, s) for i, (s, e) in enumerate(parts))
    return _check_leaf(where, spec, element)


def _structure_error(where: str, element: Any, spec: Any) -> PipelineError:
    return PipelineError(
        f"{where} has the structure {_shape_of(element)}, but element_spec says "
        f"{spec_in_words(spec)}"
    )


def _check_leaf(where: str, spec: Any, leaf: Any) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return leaf  # TensorFlow itself compares ragged and sparse values
    try:
        tensor = tf.convert_to_tensor(leaf, dtype=spec.dtype)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{where} does not convert to {spec.dtype.name}: {first_line(error)}"
        ) from None
    if not spec.shape.is_compatible_with(tensor.shape):
        raise PipelineError(
            f"{where} has shape {tuple(tensor.shape)}, but element_spec says {spec.shape}"
        )
    return tensor


def spec_in_words(spec: Any) -> str:
    """A spec in the form that is shown to users, like `(float32[16], int32)`."""

    def text(leaf: Any) -> str:
        if isinstance(leaf, tf.TensorSpec):
            return f"{leaf.dtype.name}{list(leaf.shape) if leaf.shape.rank else ''}"
        return type(leaf).__name__

    return str(tf.nest.map_structure(text, spec)).replace("'", "")


def _shape_of(element: Any) -> str:
    if isinstance(element, tuple):
        return "(" + ", ".join(_shape_of(part) for part in element) + ")"
    return type(element).__name__


def static_bytes(spec: Any) -> int | None:
    """Bytes of one tensor of a spec; None if its size varies."""
    if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
        return None
    return 0 if spec.dtype == tf.string else int(spec.shape.num_elements() * spec.dtype.size)


def element_bytes(specs: Any) -> int | None:
    """Bytes of an element with these nested specs; None if its size varies."""
    sizes = [static_bytes(spec) for spec in tf.nest.flatten(specs)]
    return None if None in sizes else sum(size or 0 for size in sizes)


def first_line(error: Exception) -> str:
    """The first informative line: Keras puts one before it that only names the layer."""
    text = ANSI.sub("", str(error)).strip()
    lines = [line for line in text.split("\n") if line and KERAS_PREFIX not in line]
    return lines[0] if lines else text
