"""Plain generator functions as pipelines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
import tensorflow as tf

from prefetch_tuning.objectives.checks.inspection import inspect_pipeline
from prefetch_tuning.objectives.loop.emulated import feed_of
from prefetch_tuning.objectives.machine.device import device_for
from prefetch_tuning.objectives.measurement import Measurement
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError, has_transform
from tests.planted.functions import SPEC
from tests.planted.pipelines import Mapped
from tests.process.test_runner import QUICK
from tests.test_cli import prefetch_tune

HERE = "tests.planted.functions"
ROWS = f"{HERE}:rows,map={HERE}:double,model={HERE}:make_model"


def test_the_spec_is_read_off_the_elements() -> None:
    assert catalog.load(f"{HERE}:rows,step=5ms").element_spec == SPEC
    assert catalog.load(f"{HERE}:sentences,step=5ms").element_spec == (
        {"words": tf.TensorSpec((None,), tf.int64), "kind": tf.TensorSpec((), tf.string)},
        tf.TensorSpec((), tf.int32),
    )


def test_generator_map_and_model_become_one_pipeline() -> None:
    pipeline = catalog.load(ROWS)
    config = PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1)
    [(features, label)] = build_dataset(pipeline, config, seed=3).take(1)

    assert pipeline.name == "rows"
    assert has_transform(pipeline)
    assert not has_transform(catalog.load(f"{HERE}:rows,step=5ms"))
    assert features.shape == (4, 4)
    tf.debugging.assert_near(tf.reduce_sum(features, axis=1), 2.0 * label)
    again = build_dataset(pipeline, config, seed=3).take(1)
    tf.debugging.assert_equal(next(iter(again))[0], features)
    other = build_dataset(pipeline, config, seed=4).take(1)
    assert not tf.reduce_all(next(iter(other))[0] == features)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixed", r"no common type: float64\[3, 3\], float64\[3\]"),
        ("restless", "element 1 differs in structure from the first; write a class"),
        ("objects", "TensorFlow cannot hold one of its elements"),
        ("nothing", "ended without yielding an element"),
        ("demanding", "demanding cannot be called with only a seed: .*'path'"),
    ],
)
def test_what_cannot_be_described_is_one_line(name: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message) as caught:
        catalog.load(f"{HERE}:{name},step=5ms")
    assert "\n" not in str(caught.value)


def test_a_generator_needs_a_consumer_but_its_dataset_does_not() -> None:
    pipeline = catalog.load(f"{HERE}:rows")
    assert isinstance(pipeline, GeneratorPipeline)
    build_dataset(pipeline, PipelineConfig.no_prefetch(4))

    with pytest.raises(PipelineError, match=r"give --model module:function, .* or --step-time 5ms"):
        pipeline.build_model()


def test_a_class_brings_its_own_map_and_model() -> None:
    with pytest.raises(PipelineError, match="leave out --map and --model"):
        catalog.load(f"tests.planted.pipelines:Mapped,map={HERE}:double")


@pytest.mark.parametrize("target", [f"{HERE}:rows", "tests.planted.pipelines:Mapped"])
def test_an_emulated_step_takes_the_place_of_any_pipelines_model(target: str) -> None:
    pipeline = catalog.load(f"{target},step=10ms+2.5ms/example")
    dataset = build_dataset(pipeline, PipelineConfig.no_prefetch(4))
    feed = feed_of(pipeline.build_model(), dataset)
    assert pipeline.stand_in == "an emulated step: 10 ms + 2.5 ms per example"
    begin = time.perf_counter()
    for _ in range(5):
        feed.step(next(iter(dataset)))
    feed.synchronise()

    assert time.perf_counter() - begin >= 0.1


@dataclass(frozen=True)
class Frozen(Mapped):
    """A pipeline that can't be changed."""


FROZEN = Frozen()


def test_an_emulated_step_leaves_the_users_own_instance_alone() -> None:
    emulated = catalog.load(f"{__name__}:FROZEN,step=5ms")

    assert (emulated.stand_in, FROZEN.stand_in) == ("an emulated step: 5 ms", None)
    assert isinstance(emulated.build_model(), EmulatedModel)
    assert not isinstance(FROZEN.build_model(), EmulatedModel)


def test_an_emulated_step_runs_on_no_gpu() -> None:
    assert device_for("m:f,step=5ms", "auto") == "cpu"
    assert device_for("m:f", "gpu") == "gpu"
    assert inspect_pipeline(f"{HERE}:rows,step=2ms", 0, "gpu").device == "an emulated accelerator"
    assert inspect_pipeline(ROWS, 0, "cpu").device == "cpu"


def test_it_is_inspected_measured_and_diagnosed_like_any_other(runner: TrialRunner) -> None:
    info = inspect_pipeline(f"{HERE}:rows,step=2ms", 0, "cpu")
    assert info.stand_in == "an emulated step: 2 ms"
    assert info.summary == "Rows of four numbers and their sum."
    assert inspect_pipeline(ROWS, 0, "cpu").stand_in is None

    config = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=2)
    for target in (ROWS, f"{HERE}:rows,step=2ms", f"{HERE}:sentences,step=1ms"):
        spec = TrialSpec(pipeline=target, config=config, stop=QUICK, device="cpu")
        assert isinstance(runner.measure(spec), Measurement)
    costs = runner.measure_stages(f"{HERE}:rows,step=2ms", 0, "cpu")
    assert isinstance(costs, StageCosts)
    assert set(costs.step_s.values()) == {0.002}


@pytest.mark.parametrize(
    ("target", "valid"),
    [
        (ROWS, True),
        (f"{HERE}:rows,step=2.5ms", True),
        (f"{HERE}:rows,model=os.system('true')", False),
        (f"{HERE}:rows,shell={HERE}:rows", False),
    ],
)
def test_a_spec_takes_names_and_nothing_else(target: str, valid: bool) -> None:
    params: dict[str, Any] = TrialSpec(
        pipeline="a:b", config=PipelineConfig.no_prefetch(4)
    ).to_params()
    params["pipeline"] = target
    if valid:
        assert TrialSpec.from_params(params).pipeline == target
    else:
        with pytest.raises(ValueError, match=r"pipeline: .* is not of the form"):
            TrialSpec.from_params(params)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simple", "image", "--map", "a:b"], "belong to exactly one generator function"),
        ([f"{HERE}:rows", "--step-time", "fast"], "'fast' isn't a step time; give one like 12ms"),
        (["simple", "--accelerator", "h200"], "no accelerator named 'h200'"),
        (["simple", "--accelerator", "runs:/0"], "there is no "),
        (
            ["simple", "--step-time", "5ms", "--device", "gpu"],
            "an emulated step runs on no device",
        ),
        (
            ["simple", "--step-time", "5ms", "--accelerator", "unet3d-h100"],
            "not allowed with argument",
        ),
        ([f"{HERE}:rows", "--model", "nonsense"], "--model 'nonsense' is not of the form"),
        (
            [f"{HERE}:rows", "--model", "a:b", "--step-time", "5ms"],
            "a step is either the model's or emulated; leave one out",
        ),
    ],
)
def test_misuse_is_one_line(tmp_path: Any, arguments: list[str], message: str) -> None:
    done = prefetch_tune(tmp_path, "tune", *arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
