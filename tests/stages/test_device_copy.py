"""The copy to the device as a separate stage, with the CPU standing in for a GPU."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from prefetch_tuning.experiments.report import figures_result, tables
from prefetch_tuning.experiments.report.metrics import diagnosis_metrics
from prefetch_tuning.experiments.report.terminal import print_diagnosis
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.objectives.loop.steady_state import Taken
from prefetch_tuning.objectives.loop.training import StepError
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts
from prefetch_tuning.objectives.stages import generator_stages as stages
from prefetch_tuning.objectives.stages import limit_terms as limits
from prefetch_tuning.objectives.stages.device_copy import (
    accelerator,
    can_be_copied,
    copying,
    on_device,
    ready_on_device,
)
from tests.planted import pipelines as planted
from tests.support import report_records
from tests.support.fakes import COSTS, cost

CPU = "/device:CPU:0"
NUMBERS = (tf.TensorSpec((None, 4), tf.float32), {"label": tf.TensorSpec((None,), tf.int32)})


def test_on_a_cpu_there_is_nothing_to_copy() -> None:
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert accelerator(NUMBERS) is None
    assert stages.Stages(planted.Planted(), 0)._device_copy() is None


@pytest.mark.parametrize(
    ("spec", "copied"),
    [
        (NUMBERS, True),
        (tf.TensorSpec((None, 8, 8, 3), tf.uint8), True),
        (tf.TensorSpec((None,), tf.bool), True),
        ((NUMBERS, tf.TensorSpec((None,), tf.string)), False),
        (tf.RaggedTensorSpec((None, None), tf.int32), False),
        (tf.SparseTensorSpec((None, 4), tf.float32), False),
    ],
    ids=str,
)
def test_only_plain_numbers_go_to_a_gpu(spec: Any, copied: bool) -> None:
    assert can_be_copied(spec) == copied


def test_a_copied_batch_is_the_same_batch() -> None:
    batch = (tf.ones((2, 4)), {"label": tf.constant([3, 4])})

    found = on_device(batch, CPU)

    tf.nest.assert_same_structure(found, batch)
    np.testing.assert_array_equal(found[1]["label"], [3, 4])


def test_each_advance_copies_every_part_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = (tf.ones((2, 4)), tf.constant([3, 4]))
    copied: list[tuple[tuple[int, ...], str]] = []
    monkeypatch.setattr(
        type(batch[0]),
        "_copy_to_device",
        lambda leaf, device: copied.append((tuple(leaf.shape), device)),
    )
    feed = copying(batch, 2, CPU)

    assert feed.advance() == feed.advance() == Taken(0.0, 2)

    assert copied == 2 * [((2, 4), CPU), ((2,), CPU)]


def test_the_copy_runs_on_a_real_device_and_waits_for_it() -> None:
    feed = copying((tf.ones((2, 4)), tf.constant([3, 4])), 2, CPU)

    feed.advance()
    feed.synchronise()


def test_ready_batches_come_round_and_round_through_the_device() -> None:
    batches = [(tf.fill((2, 4), float(i)), {"label": tf.constant([i, i])}) for i in range(2)]

    ready = ready_on_device(batches, NUMBERS, CPU)

    assert ready.element_spec == NUMBERS
    assert [int(labels["label"][0]) for _, labels in ready.take(5)] == [0, 1, 0, 1, 0]


def test_the_stage_is_measured_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "accelerator", lambda _: CPU)

    found = stages.Stages(planted.Mapped(), 0).measure()

    assert found.device_copy is not None
    assert found.device_copy.wall_s > 0
    assert found.step_s.keys() == {4, 8}


@pytest.mark.slow
def test_batch_sizes_that_the_device_cannot_hold_are_left_out_of_the_diagnosis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step on 8 runs out of memory, so 4 is left. If 4 does too, the measurement fails."""
    step = stages.Stages._step_of

    def measured(largest: int) -> StageCosts:
        def lacking(self: Any, size: int) -> StageCost:
            if size > largest:
                raise StepError("ResourceExhaustedError: OOM")
            return step(self, size)

        monkeypatch.setattr(stages.Stages, "_step_of", lacking)
        return stages.Stages(planted.Mapped(), 0).measure()

    monkeypatch.setattr(stages, "lacked_device_memory", lambda error: True)
    found = measured(4)
    assert (list(found.step_s), found.batch_size) == ([4], 4)
    assert {loop.batch_size for loop in found.loops} == {4}
    with pytest.raises(StepError):
        measured(3)
    monkeypatch.setattr(stages, "lacked_device_memory", lambda error: False)
    with pytest.raises(StepError):
        measured(4)


def test_the_limit_takes_the_faster_way_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed is measured three times: host batches, the same on one core, copied ahead."""
    slow = StageCost(wall_s=2e-3, cpu_s=2e-3)
    for ahead_s in (1e-3, 3e-3):
        costs = iter([slow, slow, StageCost(wall_s=ahead_s, cpu_s=1e-3)])
        monkeypatch.setattr(limits, "accelerator", lambda _: CPU)
        monkeypatch.setattr(limits, "_cost", lambda feed, costs=costs: next(costs))

        step, least_cpu_s, _ = limits._step(planted.Mapped(), 4, 0)

        assert step.wall_s == min(ahead_s, 2e-3)
        assert least_cpu_s == 1e-3


def test_the_step_really_runs_on_batches_that_were_copied_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []

    def kept(*arguments: Any) -> tf.data.Dataset:
        given.append(ready_on_device(*arguments))
        return given[-1]

    monkeypatch.setattr(limits, "accelerator", lambda _: CPU)
    monkeypatch.setattr(limits, "ready_on_device", kept)

    terms = limits.measure_limit_terms(planted.Mapped(), 4, 0, vectorized=False)

    assert len(given) == 1
    assert terms.step_examples_per_s > 0


def test_whatever_lists_the_stages_lists_the_copy() -> None:
    costs = COSTS.model_copy(update={"device_copy": cost(400.0, 30.0)})
    diagnosis = diagnose(costs, 2)
    full = report_records.full()
    record = full.model_copy(
        update={"result": full.result.model_copy(update={"diagnosis": diagnosis})}
    )
    text = io.StringIO()
    print_diagnosis(Console(file=text, width=100), "mapped", diagnosis)

    assert "limited by the copy of each batch from host memory" in text.getvalue()
    assert "copy to the device" in text.getvalue()
    assert ("copy to the device", "400.0", "30.0") in tables.stages_table(record).rows
    assert diagnosis_metrics(costs)["diagnosis/device_copy/wall_us"] == pytest.approx(400.0)
    [chart] = figures_result.stage_costs(record)
    assert "<b>copy to the device</b>" in chart.layout.yaxis.ticktext
    assert "diagnosis/device_copy/wall_us" not in diagnosis_metrics(COSTS)
