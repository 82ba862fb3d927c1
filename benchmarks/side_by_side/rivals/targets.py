"""Each rival of each built-in pipeline as a target, which is measured like a user's own dataset.

`target_of` names a function of this module, such as `image__whole_batches__1`, and the pipeline's
model, such as `image__model`. `__getattr__` makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from benchmarks.side_by_side.rivals import experts, loaders, torch_loader
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable

# Makes a dataset of batches, given the batch size and one setting.
Build = Callable[[GeneratorPipeline, int, int], tf.data.Dataset]
SEPARATOR, MODEL = "__", "model"
# The built-in pipelines whose generator waits, here for a server.
WAITING = ("remote",)


@dataclass(frozen=True)
class Rival:
    """One way of doing without this project.

    Attributes:
        name: what the tables call it.
        build: makes its dataset.
        setting: what its number means; empty if it has none.
        numbers: the numbers to choose from.
        waiting: further numbers for a generator that waits, which cores don't bound.
        copies: with more than one, a generator that can't be split is read several times.
        sharded: it needs a generator that can be split.
        elsewhere: it is measured in an environment of its own.
    """

    name: str
    build: Build
    setting: str = ""
    numbers: tuple[int, ...] = (1,)
    waiting: tuple[int, ...] = ()
    copies: bool = False
    sharded: bool = False
    elsewhere: bool = False

    def fits(self, pipeline: GeneratorPipeline) -> bool:
        """Whether it can read this pipeline here."""
        return not self.elsewhere and (is_shardable(pipeline) or not self.sharded)

    def numbers_for(self, pipeline: GeneratorPipeline) -> tuple[int, ...]:
        """The numbers with which it reads the same data, and that may help."""
        if self.copies and not is_shardable(pipeline):
            return tuple(number for number in self.numbers if number <= 1)
        return self.numbers + self.waiting * (pipeline.name in WAITING)


RIVALS = {
    "whole_batches": Rival("batches from the generator", experts.whole_batches),
    "unordered": Rival("AUTOTUNE in any order", experts.unordered),
    "interleaved": Rival(
        "interleave", experts.interleaved, "shards", (2, 4, 8, 16, 32), sharded=True
    ),
    "keras_threads": Rival("PyDataset", loaders.keras_threads, "threads", (1, 2, 4, 8, 16, 32)),
    "grain_thread": Rival("grain in a thread", loaders.grain_thread, "batches ahead", (2, 16)),
    "grain_processes": Rival(
        "grain mp_prefetch",
        loaders.grain_processes,
        "processes",
        (1, 2, 4, 8),
        waiting=(16, 32),
        sharded=True,
    ),
    "torch_processes": Rival(
        "DataLoader",
        torch_loader.torch_processes,
        "processes",
        (0, 1, 2, 4, 8),
        waiting=(16, 32),
        copies=True,
        elsewhere=True,
    ),
}


def target_of(pipeline: str, rival: str, number: int) -> str:
    """The target of a rival of a built-in pipeline."""
    function = SEPARATOR.join((pipeline, rival, str(number)))
    return f"{__name__}:{function},model={__name__}:{pipeline}{SEPARATOR}{MODEL}"


def rivals_of(pipeline: GeneratorPipeline) -> list[str]:
    """The names of the rivals that can read a pipeline."""
    return [name for name, rival in RIVALS.items() if rival.fits(pipeline)]


def __getattr__(name: str) -> Any:
    """Makes the function that a target names."""
    pipeline_name, _, rest = name.partition(SEPARATOR)
    if pipeline_name not in catalog.names() or not rest:
        raise AttributeError(name)
    pipeline = catalog.load(pipeline_name)
    if rest == MODEL:
        return pipeline.build_model
    rival, _, number = rest.partition(SEPARATOR)
    if not isinstance(pipeline, GeneratorPipeline) or rival not in RIVALS:
        raise AttributeError(name)
    build = RIVALS[rival].build

    def dataset(config: PipelineConfig) -> tf.data.Dataset:
        return build(pipeline, config.batch_size, int(number))

    dataset.__name__ = name
    return dataset
