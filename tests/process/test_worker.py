"""The trial's process answers before it deletes anything."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest

from prefetch_tuning.objectives.loop.emulated import feed_of
from prefetch_tuning.objectives.measurement import Measurement
from prefetch_tuning.objectives.process import worker
from prefetch_tuning.objectives.process.trial import Trial
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import measurement

SPEC = TrialSpec(
    pipeline="tests.planted.pipelines:Wide",
    config=PipelineConfig.autotune(8),
    device="cpu",
    stop=StopRule(window_s=0.02, startup_s=0.02, min_windows=3, max_s=0.1, warmup_max_s=0.1),
)


def test_the_answer_comes_before_the_trial_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    class Noted:
        def __init__(self, _: TrialSpec) -> None:
            pass

        def run(self) -> Measurement:
            return measurement(123.0)

        def __del__(self) -> None:
            order.append("deleted")

    def answer(line: str) -> None:
        order.append("answered")
        assert json.loads(line)["measurement"]["examples_per_s"] == 123.0

    monkeypatch.setattr(worker, "Trial", Noted)
    worker.run_job(json.dumps({"job": "measure", "spec": SPEC.model_dump(mode="json")}), answer)
    gc.collect()

    assert order == ["answered", "deleted"]


def test_a_trial_keeps_its_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting AUTOTUNE's iterator waits until its thread has slept, for seconds."""
    made: list[weakref.ref[Any]] = []

    def noted(*given: Any, **options: Any) -> Any:
        feed = feed_of(*given, **options)
        made.append(weakref.ref(feed))
        return feed

    monkeypatch.setattr("prefetch_tuning.objectives.process.trial.feed_of", noted)
    trial = Trial(SPEC)
    assert trial.run().examples_per_s > 0
    gc.collect()

    (feed,) = made
    assert feed() is not None
