"""What a person brings: a generator, an optional map, a model, and the batch sizes to search."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prefetch_tuning.pipelines.config import PipelineConfig

if TYPE_CHECKING:  # the process that runs a study reads this module without TensorFlow
    import keras
    import tensorflow as tf

# What a subclass has to bring; the rest has its defaults.
REQUIRED_MEMBERS = ("name", "element_spec", "batch_sizes")


class PipelineError(ValueError):
    """A pipeline cannot be used as it is; the message says what is wrong and what to do."""


class GeneratorPipeline(ABC):
    """A Python generator of training examples and the model it feeds.

    Attributes:
        name: what it is called on the command line, in studies and in MLflow.
        element_spec: nested `tf.TypeSpec` of one `(features, label)` element, unbatched. Elements
            with unknown dimensions are batched with `padded_batch`.
        batch_sizes: the batch sizes worth searching, in examples.
        skipped_elements: faulty elements that `generate` left out so far; logged with each trial.
        stand_in: what takes the place of a model's training step, in words; None for a real model.
        functions: whose source decides what is measured; empty for that of the class.
        transform_batch: the map for whole batches, where `transform` does not take them itself;
            usually a method.
    """

    name: str
    element_spec: Any
    batch_sizes: Sequence[int]
    skipped_elements: int = 0
    stand_in: str | None = None
    functions: Sequence[Any] = ()
    transform_batch: Callable[..., Any] | None = None

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Makes what `generate` reads, once, before it is started in several processes."""

    @abstractmethod
    def generate(self, seed: int) -> Iterator[Any]:
        """Yields plain Python or NumPy elements, finite or endless.

        The same seed must give the same elements: reruns are checked against a digest of them.
        A finite generator is started again when it ends; the restarts are logged.

        With two more parameters, `shard_index=0` and `shard_count=1`, it can be run in several
        processes: a shard yields the elements shard_index, shard_index + shard_count, ... and
        leaves out the work for the others.
        """

    def transform(self, *element: Any) -> Any:
        """Maps one element in TensorFlow ops; `(features, label)` in, the same structure out.

        Identity by default, which also takes `map_parallelism` out of the search.
        """
        return element

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Returns a fresh Keras model, compiled with an optimizer and a loss."""


def is_shardable(pipeline: Pipeline) -> bool:
    """Whether the generator can be run in shards, each in a process of its own."""
    if isinstance(pipeline, BatchesPipeline):
        return False
    parameters = inspect.signature(type(pipeline).generate).parameters
    return {"shard_index", "shard_count"} <= parameters.keys()


class BatchesPipeline(ABC):
    """A chain of a person's own, which makes its batches itself.

    Attributes:
        name: as of a generator.
        batch_sizes: as of a generator; a single one where the chain has a size of its own.
        axes: the settings of `PipelineConfig` that it follows, beside `prefetch_buffer`.
        own: settings that it was made with, which the AUTOTUNE baseline keeps.
        element_spec: nested `tf.TypeSpec` of one batch.
        functions: whose source decides what is measured.
        skipped_elements, stand_in: as of a generator.
    """

    name: str
    batch_sizes: Sequence[int]
    axes: Sequence[str]
    own: Mapping[str, int | bool] = MappingProxyType({})
    element_spec: Any
    functions: Sequence[Any]
    skipped_elements: int = 0
    stand_in: str | None = None

    @abstractmethod
    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """The chain under these settings, from source to prefetch; options are pinned after it."""

    def bare_batches(self, seed: int) -> Iterator[Any] | None:
        """What the pipeline's Python makes by itself, batch after batch, without an end.

        None where it cannot be told from the rest of the chain, as by default.
        """
        del seed
        return None

    @abstractmethod
    def build_model(self) -> keras.Model:
        """Returns a fresh Keras model, compiled with an optimizer and a loss."""


# What the catalog loads.
Pipeline = GeneratorPipeline | BatchesPipeline


def has_transform(pipeline: Pipeline) -> bool:
    """Whether the pipeline brings a map of its own, so that the map is worth running at all."""
    if isinstance(pipeline, BatchesPipeline):
        return False
    return type(pipeline).transform is not GeneratorPipeline.transform
