"""Which generators may be kept in memory, and the limit that then applies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.checks import cached
from prefetch_tuning.objectives.checks.cached import why_not_cached
from prefetch_tuning.objectives.stages.declared_chains import DeclaredChains
from prefetch_tuning.objectives.stages.generator_stages import RULE
from prefetch_tuning.objectives.stages.limit_terms import measure_limit_terms
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.transformations import Chain
from prefetch_tuning.pipelines.source import GeneratorPipeline


class Counted(GeneratorPipeline):
    """Numbers; each run begins at `first`, and the runs may differ."""

    name = "counted"
    element_spec = (tf.TensorSpec(2, tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes = (4,)

    def __init__(self, chain: Chain, *, ends: bool = True, differs: bool = False) -> None:
        self.chain, self.ends, self.differs, self.runs = chain, ends, differs, 0

    def generate(self, seed: int) -> Iterator[Any]:
        self.runs += 1
        for number in range(40) if self.ends else count():
            value = number + (self.runs if self.differs and number > 30 else 0)
            yield np.full(2, value, np.float32), np.float32(value)

    def build_model(self) -> keras.Model:
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        return model


def reason(pipeline: GeneratorPipeline) -> str | None:
    return why_not_cached(ChainPipeline.of(pipeline), 0)


def test_a_generator_that_ends_and_repeats_itself_may_be_cached() -> None:
    assert reason(Counted(Chain())) is None


def test_the_whole_passes_are_compared() -> None:
    said = reason(Counted(Chain(), differs=True))
    assert said == "each pass of the generator gives other elements"


def test_tensors_can_be_compared_and_what_cannot_be_pickled_is_not_cached() -> None:
    class Tensors(Counted):
        def generate(self, seed: int) -> Iterator[Any]:
            return (tf.nest.map_structure(tf.constant, row) for row in super().generate(seed))

    class Unpicklable(Counted):
        def generate(self, seed: int) -> Iterator[Any]:
            return ((x, y, lambda: None) for x, y in super().generate(seed))

    assert reason(Tensors(Chain())) is None
    assert "can't be pickled" in str(why_not_cached(ChainPipeline.of(Unpicklable(Chain())), 0))


def test_one_that_does_not_end_in_time_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "MOST_S", 0.2)
    said = reason(Counted(Chain(), ends=False))
    assert said == "the generator doesn't end within 0.1 s or 2,048 MiB"


def test_one_that_is_too_large_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "MOST_MIB", 1e-5)
    assert "doesn't end within" in str(reason(Counted(Chain(), ends=False)))


def test_a_second_cache_is_not_offered() -> None:
    assert reason(Counted(Chain().cache().batch())) == "the chain has a cache"


@pytest.mark.parametrize(
    "chain", [Chain().cache().batch(), Chain().batch().cache()], ids=["elements", "batches"]
)
def test_behind_a_cache_the_generator_costs_nothing(chain: Chain) -> None:
    chains = DeclaredChains(ChainPipeline.of(Counted(chain)), 0, 4, RULE)

    assert chains.cached
    assert chains.generator().wall_s == 0.0
    assert chains.mapped().wall_s > 0.0


def test_the_limit_of_what_can_be_cached_has_no_generator() -> None:
    pipeline = ChainPipeline.of(Counted(Chain()))
    with_it = measure_limit_terms(pipeline, 4, 0, vectorized=False)
    without = measure_limit_terms(pipeline, 4, 0, vectorized=False, cached=True)

    assert with_it.generator_examples_per_s is not None
    assert without.generator_examples_per_s is None
    assert without.generator_cpu_s == 0.0
