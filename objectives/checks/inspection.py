"""Checks a pipeline before anything is measured, so that mistakes are found at once."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.checks.cached import why_not_cached
from prefetch_tuning.objectives.checks.elements import (
    check_transform,
    element_bytes,
    first_elements,
    first_line,
    spec_in_words,
    spec_source,
)
from prefetch_tuning.objectives.checks.shards import why_not_split
from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.emulated import feed_of
from prefetch_tuning.objectives.loop.training import NotFiniteLossError, StepError
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.chain.build import build_dataset, is_padded, sample_batch
from prefetch_tuning.pipelines.chain.chunking import is_flat
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.structure import (
    random_stage,
    reasons_against,
    unordered_stage,
)
from prefetch_tuning.pipelines.config import MAX_BATCH_SIZE, STRUCTURE, PipelineConfig
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
    PipelineError,
    has_transform,
)

# Elements to check: enough to catch a generator that changes its mind, few enough to be cheap.
ELEMENTS = 4
LEAST_BATCH = 2
# The device of an emulated step.
EMULATED = "an emulated accelerator"


def inspect_pipeline(target: str, seed: int, device: str) -> PipelineInfo:
    """Imports the pipeline, checks that its members fit together, and describes it.

    Raises:
        PipelineError: the pipeline can't be tuned; one line says what is wrong and what to do.
    """
    pipeline = catalog.load(target)
    batch_sizes = check_batch_sizes(pipeline)
    if isinstance(pipeline, BatchesPipeline):
        return inspect_batches(target, pipeline, batch_sizes, device)
    elements = first_elements(pipeline, seed, ELEMENTS)
    mapped = check_transform(pipeline, elements[0])
    model = check_model(pipeline, elements, batch_sizes[0])
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
        element=spec_in_words(pipeline.element_spec),
        element_spec=spec_source(pipeline.element_spec),
        padded=is_padded(mapped),
        element_bytes=element_bytes(mapped),
        device=_device_of(model, device),
        source_digest=source_digest(pipeline),
        flat=is_flat(pipeline.element_spec),
        axes=["map_parallelism"] * has_transform(pipeline)
        + [name for name in STRUCTURE if name not in against],
        not_offered=against,
    )


def inspect_batches(
    target: str, pipeline: BatchesPipeline, batch_sizes: list[int], device: str
) -> PipelineInfo:
    """Checks and describes a pipeline that builds its own chain.

    Raises:
        PipelineError: its batches don't have the requested size, or training on one failed.
    """
    # A small batch, which even a short data set fills. A script's code may rely on its own size.
    is_free = "batch_size" in pipeline.axes and not pipeline.is_written
    size = LEAST_BATCH if is_free else batch_sizes[0]
    batch = first_batch(pipeline, size, seed=0)
    found = tf.nest.flatten(batch)[0].shape[0]
    if found != size:
        raise PipelineError(
            f"{pipeline.name} gave a batch of {found} when asked for batches of {size}; "
            "use config.batch_size"
        )
    model = _train_once(pipeline, batch, size)
    not_offered = {
        name: pipeline.not_offered.get(name, "the pipeline builds its own chain")
        for name in STRUCTURE
        if name not in pipeline.axes
    }
    random, unordered, maps = None, None, 1
    if isinstance(pipeline, ChainPipeline):
        random, unordered = random_stage(pipeline), unordered_stage(pipeline)
        maps = sum(each.name == "map" for each in pipeline.chain[:unordered])
        uncached = why_not_cached(pipeline, seed=0)
        not_offered |= {} if uncached is None else {"cache": uncached}
    return PipelineInfo(
        target=target,
        name=str(pipeline.name),
        summary=(inspect.getdoc(pipeline) or "").split("\n")[0],
        stand_in=pipeline.stand_in,
        batch_sizes=batch_sizes,
        has_transform="map_parallelism" in pipeline.axes,
        element="batches of " + spec_in_words(pipeline.element_spec),
        element_spec=spec_source(pipeline.element_spec),
        padded=False,
        element_bytes=None,
        device=_device_of(model, device),
        source_digest=source_digest(pipeline),
        kind="chain" if isinstance(pipeline, ChainPipeline) else "batches",
        axes=[name for name in pipeline.axes if name not in ("batch_size", *not_offered)],
        not_offered=not_offered,
        own=dict(pipeline.own),
        random_stage=random,
        unordered_stage=unordered,
        unordered_maps=maps,
        written=pipeline.is_written,
        chain=pipeline.chain_in_words,
        calls=list(pipeline.calls),
        reach_s=pipeline.reach_s,
    )


def first_batch(pipeline: BatchesPipeline, batch_size: int, seed: int) -> Any:
    """A batch of the chain without look-ahead, from a separate iterator.

    Raises:
        PipelineError: the chain yields no batch.
    """
    config = PipelineConfig.no_prefetch(batch_size)
    for batch in build_dataset(pipeline, config, seed=seed):
        return batch
    raise PipelineError(f"{pipeline.name} ended without a single batch")


def check_batch_sizes(pipeline: Pipeline) -> list[int]:
    """The batch sizes to search, ascending and without duplicates.

    Raises:
        PipelineError: there are none, or one isn't a whole number in range.
    """
    name, given = pipeline.name, pipeline.batch_sizes
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise PipelineError(
            f"pipeline {name!r}: batch_sizes must list at least one size, not {given!r}"
        )
    for size in given:
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= MAX_BATCH_SIZE:
            raise PipelineError(
                f"pipeline {name!r}: batch_sizes must be whole numbers from 1 to "
                f"{MAX_BATCH_SIZE}, not {size!r}"
            )
    return sorted(set(given))


def check_model(
    pipeline: GeneratorPipeline, elements: Sequence[Any], batch_size: int
) -> keras.Model:
    """Builds the model, trains one step on the first elements, and returns the model.

    Raises:
        PipelineError: see `_train_once`.
    """
    return _train_once(pipeline, sample_batch(pipeline, elements, batch_size), batch_size)


def why_not_ahead(model: keras.Model) -> str | None:
    """Why batches can't be copied to the GPU ahead of this model's step; None if they can."""
    if Distribution(model).distributed:
        return "the model's strategy moves the batches to its devices itself"
    if int(model.steps_per_execution) > 1:
        return "the model runs several steps per execution, which read their batches on the host"
    return None


def _train_once(pipeline: Pipeline, batch: Any, batch_size: int) -> keras.Model:
    """Builds the model, trains one step on a batch, and returns the model.

    Raises:
        PipelineError: the model doesn't build, isn't a Keras model, isn't compiled, or can't train
            on these elements.
    """
    name = pipeline.name
    try:
        model = pipeline.build_model()
    except Exception as error:
        raise PipelineError(
            f"pipeline {name!r}: build_model() raised {type(error).__name__}: {first_line(error)}"
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
        feed_of(model, dataset).trace(batch)
    except (StepError, NotFiniteLossError) as error:
        raise PipelineError(
            f"pipeline {name!r}: a training step on the first elements failed: {first_line(error)}"
        ) from error
    return model


def _device_of(model: keras.Model, device: str) -> str:
    return EMULATED if isinstance(model, EmulatedModel) else device


def source_digest(pipeline: Pipeline) -> str:
    """SHA-256 of the files that define the pipeline's classes, or the functions it was made from.

    A class or function without a file counts by its `repr`. Base classes count up to this
    project's own.
    """
    total = hashlib.sha256()
    read: set[Path] = set()
    files = pipeline.files if isinstance(pipeline, BatchesPipeline) else ()
    if files:
        for file in files:
            total.update(file.read_bytes())
        return total.hexdigest()
    for source in pipeline.functions or _own_classes(pipeline):
        try:
            file = Path(inspect.getfile(source))
            total.update(b"" if file in read else file.read_bytes())
            read.add(file)
        except (OSError, TypeError):
            total.update(repr(source).encode())
    return total.hexdigest()


def _own_classes(pipeline: Pipeline) -> list[type]:
    """The pipeline's class and its base classes, without those that every pipeline inherits."""
    common = {*GeneratorPipeline.__mro__, *BatchesPipeline.__mro__}
    return [base for base in type(pipeline).__mro__ if base not in common]
