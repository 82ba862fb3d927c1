"""Defines what a user's pipeline has: a generator, an optional map, a model, batch sizes."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prefetch_tuning.pipelines.config import PipelineConfig

if TYPE_CHECKING:  # the process that runs a study imports this module without TensorFlow
    import keras
    import tensorflow as tf

    from prefetch_tuning.pipelines.chain.transformations import Chain

# The attributes that a subclass must define; the others have defaults.
REQUIRED_MEMBERS = ("name", "element_spec", "batch_sizes")


class PipelineError(ValueError):
    """A pipeline cannot be used as it is; the message says what is wrong and what to do."""


class GeneratorPipeline(ABC):
    """A Python generator of training examples and the model it feeds.

    Attributes:
        name: the pipeline's name on the command line, in studies and in MLflow.
        element_spec: nested `tf.TypeSpec` of one `(features, label)` element, unbatched. Elements
            with unknown dimensions are batched with `padded_batch`.
        batch_sizes: the batch sizes worth searching, in examples.
        skipped_elements: faulty elements that `generate` has skipped so far; logged with each
            trial.
        stand_in: describes what replaces a model's training step; None for a real model.
        functions: the functions whose source decides what is measured; if empty, the class's
            source does.
        transform_batch: the map for whole batches, if `transform` doesn't accept them; usually a
            method.
        chain: the transformations between the generator and the step, if they are more than a map,
            `batch` and `prefetch`; `transform` isn't used then.
    """

    name: str
    element_spec: Any
    batch_sizes: Sequence[int]
    skipped_elements: int = 0
    stand_in: str | None = None
    functions: Sequence[Any] = ()
    transform_batch: Callable[..., Any] | None = None
    chain: Chain | None = None

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Makes what `generate` reads, once, before several processes run the generator."""

    @abstractmethod
    def generate(self, seed: int) -> Iterator[Any]:
        """Yields plain Python or NumPy elements, finite or endless.

        The same seed must give the same elements, because reruns are checked against a digest of
        them. A finite generator is restarted when it ends; the restarts are logged.

        With two more parameters, `shard_index=0` and `shard_count=1`, the generator can run in
        several processes. A shard yields the elements shard_index, shard_index + shard_count, ...
        and skips the work for the others.
        """

    def transform(self, *element: Any) -> Any:
        """Maps one `(features, label)` element, with TensorFlow ops, to the same structure.

        The default is the identity, which also takes `map_parallelism` out of the search.
        """
        return element

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Returns a fresh Keras model, compiled with an optimizer and a loss."""


def is_shardable(pipeline: Pipeline) -> bool:
    """Whether the generator can run in shards, each in a separate process."""
    if isinstance(pipeline, BatchesPipeline):
        return False
    parameters = inspect.signature(type(pipeline).generate).parameters
    return {"shard_index", "shard_count"} <= parameters.keys()


class BatchesPipeline(ABC):
    """A user's own chain, which makes its batches itself.

    Attributes:
        name: as in `GeneratorPipeline`.
        batch_sizes: as in `GeneratorPipeline`; a single one if the chain fixes its batch size.
        axes: the settings of `PipelineConfig` that the chain follows, besides `prefetch_buffer`.
        own: settings that the chain was made with; the AUTOTUNE baseline keeps them.
        element_spec: nested `tf.TypeSpec` of one batch.
        functions: the functions whose source decides what is measured.
        files: the files that decide it; if empty, those of `functions` do.
        skipped_elements, stand_in: as in `GeneratorPipeline`.
        not_offered: the structural settings that the chain doesn't follow, each with the reason.
        needs_a_pass: whether the first pass is slower than all later ones.
        epochs: how many passes over its data a training makes; None if unknown.
        trained_steps: the steps of a training, if these decide how many passes it makes.
        is_written: whether it can also run as a script wrote it.
        chain_in_words: the chain that a script wrote; empty for any other one.
        calls: the calls in a script that made the chain, each with its place.
        reach_s: seconds that each process of a script takes until it can measure.
    """

    name: str
    batch_sizes: Sequence[int]
    axes: Sequence[str]
    own: Mapping[str, int | bool] = MappingProxyType({})
    element_spec: Any
    functions: Sequence[Any]
    files: Sequence[Path] = ()
    skipped_elements: int = 0
    stand_in: str | None = None
    not_offered: Mapping[str, str] = MappingProxyType({})
    needs_a_pass: bool = False
    epochs: int | None = None
    trained_steps: int | None = None
    is_written: bool = False
    chain_in_words: str = ""
    calls: Sequence[tuple[str, str]] = ()
    reach_s: float = 0.0

    @abstractmethod
    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """Builds the chain with these settings, up to prefetch; `build_dataset` pins options."""

    def bare_batches(self, seed: int) -> Iterator[Any] | None:
        """Returns the endless batches that the pipeline's Python code makes by itself.

        None if that code can't be separated from the rest of the chain, which is the default.
        """
        del seed
        return None

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Returns a fresh Keras model, compiled with an optimizer and a loss."""


# The types that the catalog loads.
Pipeline = GeneratorPipeline | BatchesPipeline


def has_transform(pipeline: Pipeline) -> bool:
    """Whether the pipeline has its own `transform`; if not, its chain has no map stage."""
    if isinstance(pipeline, BatchesPipeline):
        return False
    return type(pipeline).transform is not GeneratorPipeline.transform
