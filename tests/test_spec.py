from __future__ import annotations

import json

import pytest

from objectives.spec import SpecError, TrialSpec
from pipelines.config import PipelineConfig

SPEC = TrialSpec(
    pipeline="pipelines.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
    seed=7,
    best_examples_per_s=1234.5,
)


def test_round_trip_through_json() -> None:
    assert TrialSpec.from_json(SPEC.to_json()) == SPEC


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pipeline": "__import__('os').system('true')"}, "pipeline: String should match"),
        ({"pipeline": "simple"}, "pipeline: String should match"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"device": "tpu"}, "device: Input should be 'auto', 'cpu' or 'gpu'"),
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
