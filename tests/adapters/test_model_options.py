"""Checks that mixed precision and XLA reach the model of any pipeline."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import keras
import pytest

from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError, has_transform, is_shardable
from tests.planted import pipelines as planted

BOTH = ",precision=bfloat16,jit=true"


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """Restores the global policy: a trial's process ends with it, but this process continues."""
    before = keras.mixed_precision.global_policy()
    yield
    keras.mixed_precision.set_global_policy(before)


@pytest.mark.parametrize(
    "target",
    [
        "tests.planted.pipelines:Mapped",
        "prefetch_tuning.pipelines.builtin.jpeg:JpegPipeline",
        "tests.planted.functions:rows,model=tests.planted.functions:make_model",
        "prefetch_tuning.pipelines.builtin.keras_sequence:Batches,model=prefetch_tuning.pipelines.builtin.keras_sequence:build_model",
    ],
)
def test_any_model_has_what_its_target_says(target: str) -> None:
    plain, chosen = catalog.load(target), catalog.load(target + BOTH)

    model = chosen.build_model()

    assert model.dtype_policy.name == "mixed_bfloat16"
    assert model.jit_compile is True
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    assert type(chosen) is type(plain)
    assert has_transform(chosen) == has_transform(plain)
    assert is_shardable(chosen) == is_shardable(plain)


def test_without_them_a_model_is_what_the_pipeline_makes() -> None:
    model = catalog.load("tests.planted.pipelines:Mapped").build_model()

    assert model.dtype_policy.name == "float32"
    assert model.jit_compile == planted.Mapped().build_model().jit_compile


def test_float16_comes_with_the_scaling_of_the_loss() -> None:
    model = catalog.load("tests.planted.pipelines:Mapped,precision=float16").build_model()

    assert model.dtype_policy.name == "mixed_float16"
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_step_of_such_a_model_trains() -> None:
    pipeline = catalog.load("tests.planted.pipelines:Mapped" + BOTH)
    dataset = build_dataset(pipeline, PipelineConfig.no_prefetch(4))
    feed = TrainingFeed(pipeline.build_model(), dataset)

    feed.trace(next(iter(dataset)))
    feed.start()

    assert feed.advance().examples == 4
    feed.synchronise()


def test_the_instance_of_a_users_module_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    own = planted.Mapped()
    monkeypatch.setattr(planted, "instance", own, raising=False)

    assert catalog.load("tests.planted.pipelines:instance,jit=true").build_model().jit_compile
    assert "build_model" not in vars(own)


def test_it_can_be_sent_to_the_processes_of_a_generator() -> None:
    sent = pickle.loads(pickle.dumps(catalog.load("tests.planted.pipelines:Mapped" + BOTH)))

    assert sent.build_model().dtype_policy.name == "mixed_bfloat16"


def test_an_emulated_step_has_no_model_to_change() -> None:
    with pytest.raises(PipelineError, match="an emulated step has no model"):
        catalog.load("tests.planted.functions:rows,step=5ms,jit=true")


class Eager(planted.Mapped):
    """A model that runs its step in Python."""

    def build_model(self) -> Any:
        model = super().build_model()
        model.compile(optimizer="sgd", loss="mse", run_eagerly=True)
        return model


class NoXla(planted.Mapped):
    """A model with a layer that XLA can't compile."""

    def build_model(self) -> Any:
        model = super().build_model()
        model.layers[0].supports_jit = False
        return model


@pytest.mark.parametrize(
    ("name", "message"),
    [("Eager", "run_eagerly=True, so there is no graph"), ("NoXla", "one of its layers")],
)
def test_a_model_that_xla_cannot_compile_is_refused(name: str, message: str) -> None:
    pipeline = catalog.load(f"tests.adapters.test_model_options:{name},jit=true")

    with pytest.raises(PipelineError, match=message) as found:
        pipeline.build_model()
    assert "\n" not in str(found.value)
