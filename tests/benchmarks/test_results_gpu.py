"""docs/results-gpu.md for a made-up study, and what the command says without a GPU."""

from __future__ import annotations

import pytest

from benchmarks import results_gpu
from benchmarks.result_parts.gpu_document import document, utilisation
from benchmarks.result_parts.run import Outcome
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, Round, RoundMeasurement
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.machine.gpu import Gpu
from tests.benchmarks.test_results_document import rounds, with_structure
from tests.support.fake_nvml import FakeNvml
from tests.support.fakes import LIMIT_TERMS, measurement


def round_of(autotune: float) -> Round:
    return {AUTOTUNE: RoundMeasurement.of(measurement(autotune), "run")}


def test_utilisation_is_paired_within_rounds() -> None:
    """Planted: the step alone reaches 4,000/s in the first round and 2,000/s in the second."""
    slower = LIMIT_TERMS.model_copy(update={"step_examples_per_s": 2_000.0})
    kept: list[Round] = [round_of(1_000.0), round_of(500.0), {}]

    found = utilisation(AUTOTUNE, kept, [LIMIT_TERMS, slower, None])

    assert found is not None
    assert found.ratio == pytest.approx(0.25)
    assert utilisation(AUTOTUNE, [{}], [LIMIT_TERMS]) is None
    assert utilisation(AUTOTUNE, kept[:1], [None]) is None


def test_without_a_gpu_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert results_gpu.main([], Gpu(FakeNvml(), {"CUDA_VISIBLE_DEVICES": "-1"})) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_kept_needs_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert results_gpu.main(["--kept"]) == 2
    assert "--of NAME" in capsys.readouterr().err


def test_the_document_has_the_machine_and_both_utilisations() -> None:
    found = Outcome(with_structure(), rounds(1.09))
    busy = {AUTOTUNE: ratio_to([400.0, 410.0], [4_000.0, 4_000.0])}
    text = "\n".join(document("gpu-1", {"gpu": "NVIDIA H100"}, [(found, busy)]))

    assert "- gpu: NVIDIA H100" in text
    assert "## Every candidate" in text
    assert f"| {found.name} | 10% (10% to 10%) | - |" in text
