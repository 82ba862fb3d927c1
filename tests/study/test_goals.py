"""What a study looks for, by what was asked and by whether the step is emulated."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.settings import StudySettings, TuneRequest
from prefetch_tuning.experiments.study.candidates import candidates_of
from prefetch_tuning.objectives.utilisation import Utilisation
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.study.test_rounds import complete
from tests.support.fakes import INFO

EMULATED = INFO.model_copy(update={"stand_in": "an emulated step", "batch_sizes": [8, 64]})


def settings(info: Any = INFO, **options: Any) -> StudySettings:
    return StudySettings.of(TuneRequest.checked(**options), info, "now", several=False)


def test_a_real_step_is_tuned_for_throughput_and_an_emulated_one_to_be_kept_busy() -> None:
    assert settings().objective == "throughput"
    assert settings().batch_size is None
    busy = settings(EMULATED)
    assert (busy.objective, busy.goal.target) == ("utilisation", 0.9)
    # A larger batch changes the training, so it is no way to feed an accelerator.
    assert busy.batch_size == 64


def test_what_was_asked_for_comes_first() -> None:
    assert settings(EMULATED, objective="throughput").batch_size is None
    asked = settings(objective="utilisation", target=0.8, batch_size=16)
    assert (asked.goal.target, asked.batch_size) == (0.8, 16)


def test_a_target_without_an_objective_for_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--target 0\.8 is for --objective utilisation"):
        settings(target=0.8)
    with pytest.raises(UsageError, match="target"):
        TuneRequest.checked(target=1.2)


def test_one_nominee_exceeds_the_target_by_a_reserve() -> None:
    """Seen: the cheapest trials are those that barely reach it, and miss it in the rounds."""
    barely = [complete(905.0 + buffer, 8, buffer) for buffer in (1, 2, 3)]
    safe = complete(990.0, 8, 64).model_copy(update={"cpu_s_per_example": 1e-3})
    found = candidates_of([*barely, safe], Utilisation(0.9), lambda _: 1_000.0)

    assert found["tuned-2"] == PipelineConfig(batch_size=8, prefetch_buffer=64, map_parallelism=1)
    without = candidates_of(barely, Utilisation(0.9), lambda _: 1_000.0)
    assert len([name for name in without if name.startswith("tuned-")]) == 3
