"""Trial specs: what survives JSON and logged parameters, and what is refused as tampered with."""

from __future__ import annotations

import json
import re

import pytest

from prefetch_tuning.objectives.spec import SpecError, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig

SPEC = TrialSpec(
    pipeline="prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
    seed=7,
    best_examples_per_s=1234.5,
    digest_batches=64,
)


def test_round_trip_through_json() -> None:
    assert TrialSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pipeline": "__import__('os').system('true')"}, "pipeline: .* is not of the form"),
        ({"pipeline": "simple"}, "pipeline: 'simple' is not of the form"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"device": "tpu"}, "device: Input should be 'auto', 'cpu' or 'gpu'"),
        ({"digest_batches": 1}, "digest_batches: Input should be greater than or equal to 2"),
        ({"shell": "true"}, "shell: Extra inputs are not permitted"),
        ({"config": {"batch_size": 64}}, "config.prefetch_buffer: Field required"),
    ],
)
def test_refuses_a_tampered_document(changed: dict[str, object], message: str) -> None:
    document = json.loads(SPEC.to_json()) | changed

    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        TrialSpec.from_json(json.dumps(document))


def test_refuses_what_is_no_json() -> None:
    with pytest.raises(SpecError, match="Invalid JSON"):
        TrialSpec.from_json("seed: 7")


def params(**changes: object) -> dict[str, object]:
    """The logged parameters as MLflow gives them back: all of them strings."""
    logged = {key: str(value) for key, value in SPEC.to_params().items()}
    return {key: value for key, value in {**logged, **changes}.items() if value is not None}


def test_round_trip_through_logged_parameters() -> None:
    of_the_study = {"best_examples_per_s": None, "digest_batches": 2}
    assert TrialSpec.from_params(params()) == SPEC.model_copy(update=of_the_study)
    autotune = SPEC.model_copy(update={"config": PipelineConfig.autotune(8)})
    assert TrialSpec.from_params(autotune.to_params()).config == PipelineConfig.autotune(8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": "0"}, "config.batch_size: Input should be greater than or equal to 1"),
        ({"prefetch_buffer": "999999"}, "prefetch_buffer must be from 0 to 4096, not 999999"),
        ({"map_parallelism": "2.5"}, "config.map_parallelism: "),
        ({"seed": "__import__('os').system('true')"}, "seed: Input should be a valid integer"),
        ({"pipeline": "os:system('true')"}, "is not of the form module:attribute"),
        (
            {"pipeline": "prefetch_tuning.pipelines.builtin.simple"},
            "is not of the form module:attribute",
        ),
        ({"stop.window_s": "-1"}, "stop.window_s: Input should be greater than 0"),
        ({"stop.max_s": "nan"}, "stop.max_s: "),
        ({"device": "tpu"}, "device: Input should be 'auto', 'cpu' or 'gpu'"),
        ({"shell": "true"}, "unknown parameter: 'shell'"),
        ({"stop.shell": "true"}, "unknown parameter: 'stop.shell'"),
        ({"batch_size": None}, "config.batch_size: Field required"),
        ({"pipeline": None}, "pipeline: Field required"),
    ],
)
def test_refuses_tampered_parameters(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=re.escape(message)):
        TrialSpec.from_params(params(**changes))
