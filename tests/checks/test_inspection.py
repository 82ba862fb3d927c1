"""Every mistake in a pipeline gives one line, found in a real process before any measurement."""

from __future__ import annotations

import pytest

from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner


def test_a_good_pipeline_is_described(runner: TrialRunner) -> None:
    info = runner.try_inspect("tests.planted.pipelines:Mapped", seed=0, device="cpu")

    assert isinstance(info, PipelineInfo)
    assert info.name == "mapped"
    assert info.summary == "Doubles the features in a map."
    assert info.batch_sizes == [4, 8]
    assert info.has_transform
    assert info.element == "(float32[4], float32)"
    assert info.element_bytes == 20
    assert info.device == "cpu"


def test_a_pipeline_without_a_map_says_so(runner: TrialRunner) -> None:
    info = runner.try_inspect("tests.planted.pipelines:Planted", seed=0, device="cpu")

    assert isinstance(info, PipelineInfo)
    assert not info.has_transform


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("WrongShape", "element 0[0] has shape (4,), but element_spec says (5,)"),
        ("WrongStructure", "element 0 does not convert to float32"),
        ("WrongType", "element 0[0] does not convert to float32"),
        ("Empty", "generate(0) ended without yielding an element"),
        ("BrokenMap", "transform failed on the first element: RuntimeError"),
        ("Uncompiled", "returned a model that is not compiled; call model.compile("),
        ("NoModel", "build_model() must return a keras.Model, not NoneType"),
        ("WrongModel", "a training step on the first elements failed: Input 0 "),
        ("Leaving", "cannot be inspected: SystemExit: 3"),
        ("ZeroBatch", "batch_sizes must be whole numbers from 1 to 65536, not 0"),
        ("NoBatches", "batch_sizes must list at least one size, not ()"),
        ("not_a_pipeline", "is not a pipeline: it has no name"),
    ],
)
def test_a_mistake_is_one_line_of_usage(runner: TrialRunner, target: str, message: str) -> None:
    found = runner.try_inspect(f"tests.planted.pipelines:{target}", seed=0, device="cpu")

    assert isinstance(found, TrialFailure)
    assert found.kind == "usage"
    assert message in found.detail
    assert "\n" not in found.detail


def test_a_gpu_that_is_not_there(runner: TrialRunner) -> None:
    found = runner.try_inspect("tests.planted.pipelines:Planted", seed=0, device="gpu")

    if isinstance(found, PipelineInfo):
        pytest.skip("this machine has a GPU")
    assert found.kind == "usage"
    assert "--device gpu: TensorFlow sees no GPU here" in found.detail
