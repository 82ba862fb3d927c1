"""Notes of runs, as the MLflow UI shows them."""

from __future__ import annotations

import pytest

from prefetch_tuning.experiments.storage.runs.notes import trial_note
from prefetch_tuning.objectives.measurement import Ceilings, TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import measurement

SPEC = TrialSpec(
    pipeline="prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
)


def test_a_trial_tells_how_it_was_chosen_and_what_it_reached() -> None:
    tags = {"kind": "trial", "trial_number": "7", "warm_start": "true"}
    text = trial_note(SPEC, measurement(), "complete", tags, {"prediction/examples_per_s": 1_234.0})

    assert text.split("\n\n") == [
        "**batch 64, prefetch 4, map 2**, trial 7 chosen by the prediction: measured in full.",
        "1,000 ± 50 examples/s; the host waited for data for 50% of the time; peak memory 50 MiB.",
        "The prediction was 1,234 examples/s.",
    ]


def test_a_peak_that_could_not_be_reset_is_said() -> None:
    measured = measurement().model_copy(update={"memory_resets": False})
    text = trial_note(SPEC, measured, "complete", {"kind": "trial", "trial_number": "7"}, {})

    assert "The peak includes model and tracing" in text


def test_a_failure_tells_what_happened() -> None:
    failure = TrialFailure(kind="generator", detail="KeyError: 'lost'")
    text = trial_note(SPEC, failure, "failed", {"kind": "trial", "trial_number": "0"}, {})

    assert text.endswith("trial 0 chosen by the sampler: failed.\n\ngenerator: KeyError: 'lost'")


@pytest.mark.parametrize(
    ("tags", "part"),
    [
        ({"kind": "confirmation", "round": "3", "candidate": "tuned-1"}, "round 3 of tuned-1"),
        ({"kind": "rerun", "rerun_of": "abc"}, "rerun of abc"),
    ],
)
def test_rounds_and_reruns_say_whose_they_are(tags: dict[str, str], part: str) -> None:
    ceilings = Ceilings(producer_only=1_100.0, measured_s=1.0)
    measured = measurement().model_copy(update={"ceilings": ceilings, "settled": False})
    text = trial_note(SPEC, measured, "complete", tags, {})

    assert f", {part}: measured" in text
    assert "Without the step, the chain makes 1,100 examples/s." in text
    assert text.endswith("The rate was still drifting when the trial's time ran out.")
