"""Looks at a pipeline before anything is measured, so that mistakes are found at once."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.training import NotFiniteLossError, StepError, TrainingFeed
from prefetch_tuning.objectives.measurement import PipelineInfo
from prefetch_tuning.objectives.shards import why_not_split
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset, is_padded, sample_batch
from prefetch_tuning.pipelines.chain.chunking import is_flat
from prefetch_tuning.pipelines.chain.structure import reasons_against
from prefetch_tuning.pipelines.config import MAX_BATCH_SIZE, STRUCTURE, PipelineConfig
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
    PipelineError,
    has_transform,
)

# Elements looked at: enough to catch a generator that changes its mind, few enough to be cheap.
ELEMENTS = 4
LEAST_BATCH = 2
ANSI = re.compile(r"\x1b\[[0-9;]*m")
KERAS_PREFIX = "Exception encountered when calling"


def inspect_pipeline(target: str, seed: int, device: str) -> PipelineInfo:
    """Imports the pipeline, checks its members against each other and describes it.

    Raises:
        PipelineError: it cannot be tuned; one line says what is wrong and what to do.
    """
    pipeline = catalog.load(target)
    batch_sizes = check_batch_sizes(pipeline)
    if isinstance(pipeline, BatchesPipeline):
        return inspect_batches(target, pipeline, batch_sizes, device)
    elements = first_elements(pipeline, seed, ELEMENTS)
    mapped = check_transform(pipeline, elements[0])
    model = check_model(pipeline, elements, batch_sizes[0])
    sizes = [_static_bytes(spec) for spec in tf.nest.flatten(mapped)]
    against = reasons_against(pipeline, elements)
    split = None if "generator_workers" in against else why_not_split(pipeline, seed, ELEMENTS)
    if split is not None:
        against["generator_workers"] = split
    ahead = why_not_ahead(model)
    if ahead is not None:
        against.setdefault("device_prefetch", ahead)
    return PipelineInfo(
        target=target,
        name=str(pipeline.name),
        summary=(inspect.getdoc(pipeline) or "").split("\n")[0],
        stand_in=pipeline.stand_in,
        batch_sizes=batch_sizes,
        has_transform=has_transform(pipeline),
        element=_describe(pipeline.element_spec),
        element_spec=spec_source(pipeline.element_spec),
        padded=is_padded(mapped),
        element_bytes=None if None in sizes else sum(size or 0 for size in sizes),
        device=device,
        source_digest=source_digest(pipeline),
        flat=is_flat(pipeline.element_spec),
        axes=["map_parallelism"] * has_transform(pipeline)
        + [name for name in STRUCTURE if name not in against],
        not_offered=against,
    )


def inspect_batches(
    target: str, pipeline: BatchesPipeline, batch_sizes: list[int], device: str
) -> PipelineInfo:
    """The same for a chain of a person's own.

    Raises:
        PipelineError: its batches are not of the size that was asked for, or do not train.
    """
    # A small one, which also a short data set fills.
    size = LEAST_BATCH if "batch_size" in pipeline.axes else batch_sizes[0]
    batch = first_batch(pipeline, size, seed=0)
    found = tf.nest.flatten(batch)[0].shape[0]
    if found != size:
        raise PipelineError(
            f"{pipeline.name}: asked for batches of {size} it gave one of {found}; "
            "use config.batch_size"
        )
    _train_once(pipeline, batch, size)
    return PipelineInfo(
        target=target,
        name=str(pipeline.name),
        summary=(inspect.getdoc(pipeline) or "").split("\n")[0],
        stand_in=pipeline.stand_in,
        batch_sizes=batch_sizes,
        has_transform="map_parallelism" in pipeline.axes,
        element="batches of " + _describe(pipeline.element_spec),
        element_spec=spec_source(pipeline.element_spec),
        padded=False,
        element_bytes=None,
        device=device,
        source_digest=source_digest(pipeline),
        kind="batches",
        axes=[name for name in pipeline.axes if name != "batch_size"],
        not_offered=dict.fromkeys(STRUCTURE, "the pipeline builds its own chain"),
        own=dict(pipeline.own),
    )


def first_batch(pipeline: BatchesPipeline, batch_size: int, seed: int) -> Any:
    """A batch of the chain without look-ahead, from an iterator of its own.

    Raises:
        PipelineError: there is none.
    """
    config = PipelineConfig.no_prefetch(batch_size)
    for batch in build_dataset(pipeline, config, seed=seed):
        return batch
    raise PipelineError(f"{pipeline.name} ended without a single batch")


def check_batch_sizes(pipeline: Pipeline) -> list[int]:
    """The batch sizes to search, ascending and without repeats.

    Raises:
        PipelineError: there are none, or one is not a whole number in range.
    """
    name, given = pipeline.name, pipeline.batch_sizes
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise PipelineError(
            f"pipeline {name!r}: batch_sizes must list at least one size: {given!r}"
        )
    for size in given:
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_BATCH_SIZE:
            raise PipelineError(
                f"pipeline {name!r}: batch_sizes must be whole numbers from 1 to "
                f"{MAX_BATCH_SIZE}, not {size!r}"
            )
    return sorted(set(given))


def first_elements(pipeline: GeneratorPipeline, seed: int, count: int) -> list[Any]:
    """The bare generator's first elements as tensors of `element_spec`'s structure.

    Raises:
        PipelineError: an element does not match `element_spec`, or there is none.
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
            f"pipeline {pipeline.name!r}: generate({seed}) raised {type(error).__name__} after "
            f"{len(elements)} elements: {error}"
        ) from error
    if not elements:
        raise PipelineError(
            f"pipeline {pipeline.name!r}: generate({seed}) ended without yielding an element"
        )
    return elements


def check_transform(pipeline: GeneratorPipeline, element: Any) -> Any:
    """The spec of an element as the map leaves it, after running the map once on a real element.

    Raises:
        PipelineError: the map raised.
    """
    if not has_transform(pipeline):
        return pipeline.element_spec
    try:
        dataset = tf.data.Dataset.from_tensors(element).map(pipeline.transform)
        for _ in dataset:
            pass
    except Exception as error:
        raise PipelineError(
            f"pipeline {pipeline.name!r}: transform failed on the first element: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    return dataset.element_spec


def check_model(
    pipeline: GeneratorPipeline, elements: Sequence[Any], batch_size: int
) -> keras.Model:
    """Builds the model and trains one step on the first elements; returns it.

    Raises:
        PipelineError: see `_train_once`.
    """
    return _train_once(pipeline, sample_batch(pipeline, elements, batch_size), batch_size)


def why_not_ahead(model: keras.Model) -> str | None:
    """Why batches cannot be copied to the GPU ahead of this model's step; None where they can."""
    if Distribution(model).distributed:
        return "the model's strategy brings the batches to its devices itself"
    if int(model.steps_per_execution) > 1:
        return "the model runs several steps at once, which take their batches from the host"
    return None


def _train_once(pipeline: Pipeline, batch: Any, batch_size: int) -> keras.Model:
    """Builds the model, trains one step on a batch, and returns it.

    Raises:
        PipelineError: it does not build, is no Keras model, is not compiled, or cannot train on
            these elements.
    """
    name = pipeline.name
    try:
        model = pipeline.build_model()
    except Exception as error:
        raise PipelineError(
            f"pipeline {name!r}: build_model() raised {type(error).__name__}: {_first_line(error)}"
        ) from error
    if not isinstance(model, keras.Model):
        raise PipelineError(
            f"pipeline {name!r}: build_model() must return a keras.Model, "
            f"not {type(model).__name__}"
        )
    if not model.compiled:
        raise PipelineError(
            f"pipeline {name!r}: build_model() returned a model that is not compiled; call "
            "model.compile(optimizer=..., loss=...) in it"
        )
    dataset = build_dataset(pipeline, PipelineConfig.no_prefetch(batch_size))
    try:
        TrainingFeed(model, dataset).trace(batch)
    except (StepError, NotFiniteLossError) as error:
        raise PipelineError(
            f"pipeline {name!r}: a training step on the first elements failed: {_first_line(error)}"
        ) from error
    return model


def spec_source(spec: Any) -> str:
    """An element spec as Python source that makes an equal one with nothing but `tf` at hand."""
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


def source_digest(pipeline: Pipeline) -> str:
    """SHA-256 of the files that define the pipeline's classes, or the functions it was made of.

    Of their names where there is no file. Base classes count up to this project's own.
    """
    total = hashlib.sha256()
    read: set[Path] = set()
    for source in pipeline.functions or _own_classes(pipeline):
        try:
            file = Path(inspect.getfile(source))
            total.update(b"" if file in read else file.read_bytes())
            read.add(file)
        except (OSError, TypeError):
            total.update(repr(source).encode())
    return total.hexdigest()


def _own_classes(pipeline: Pipeline) -> list[type]:
    """The pipeline's class and those it inherits from, without what any pipeline inherits from."""
    common = {*GeneratorPipeline.__mro__, *BatchesPipeline.__mro__}
    return [base for base in type(pipeline).__mro__ if base not in common]


def _check_element(where: str, element: Any, spec: Any) -> Any:
    """`element` as tensors in the structure of `spec`.

    As in tf.data only tuples and dicts are structure: a list is a tensor written out.
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
        f"{where} has the structure {_shape_of(element)}, but element_spec says {_describe(spec)}"
    )


def _check_leaf(where: str, spec: Any, leaf: Any) -> Any:
    if not isinstance(spec, tf.TensorSpec):
        return leaf  # ragged and sparse values are compared by TensorFlow itself
    try:
        tensor = tf.convert_to_tensor(leaf, dtype=spec.dtype)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"{where} does not convert to {spec.dtype.name}: {_first_line(error)}"
        ) from None
    if not spec.shape.is_compatible_with(tensor.shape):
        raise PipelineError(
            f"{where} has shape {tuple(tensor.shape)}, but element_spec says {spec.shape}"
        )
    return tensor


def _describe(spec: Any) -> str:
    def text(leaf: Any) -> str:
        if isinstance(leaf, tf.TensorSpec):
            return f"{leaf.dtype.name}{list(leaf.shape) if leaf.shape.rank else ''}"
        return type(leaf).__name__

    return str(tf.nest.map_structure(text, spec)).replace("'", "")


def _shape_of(element: Any) -> str:
    if isinstance(element, tuple):
        return "(" + ", ".join(_shape_of(part) for part in element) + ")"
    return type(element).__name__


def _static_bytes(spec: Any) -> int | None:
    if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
        return None
    return 0 if spec.dtype == tf.string else int(spec.shape.num_elements() * spec.dtype.size)


def _first_line(error: Exception) -> str:
    """The first line that says something: Keras puts one that names only the layer before it."""
    text = ANSI.sub("", str(error)).strip()
    lines = [line for line in text.split("\n") if line and KERAS_PREFIX not in line]
    return lines[0] if lines else text
