"""`watch` around whatever a loop iterates over."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning import watch
from prefetch_tuning.objectives.monitor.watched import examples_of
from tests.monitor.test_callback import silent


def test_the_loop_sees_the_same_batches_and_the_waits_are_timed() -> None:
    lines: list[str] = []
    batches = tf.data.Dataset.range(40).batch(8)
    watched = watch(batches, say=lines.append)

    for _ in range(2):
        seen = [batch.numpy().tolist() for batch in watched]
        assert seen == [batch.numpy().tolist() for batch in batches]

    assert [epoch.examples for epoch in watched.epochs] == [40, 40]
    assert [epoch.steps for epoch in watched.epochs] == [5, 5]
    assert len(watched) == 5
    assert 0.0 <= watched.wait_fraction <= 1.0
    assert len([line for line in lines if " waited " in line]) == 2


def test_a_loop_that_breaks_off_has_its_epoch() -> None:
    watched = watch([np.zeros((4, 2))] * 10, say=silent)
    for number, _ in enumerate(watched):
        if number == 3:
            break
    assert [epoch.examples for epoch in watched.epochs] == [12]  # the last step didn't end


def test_epochs_share_a_run_and_what_memory_showed(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefetch_tuning.objectives.monitor.run_log import RunLog

    logged: list[int] = []
    monkeypatch.setattr(RunLog, "log", lambda self, metrics, step: logged.append(step))
    watched = watch([np.zeros((4, 2))] * 10, say=silent)
    for _ in range(3):
        list(watched)
    assert logged == [10, 20, 30]


def test_an_error_of_the_data_is_the_loops() -> None:
    def failing() -> Any:
        yield np.zeros(2)
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(watch(failing(), say=silent))


@pytest.mark.parametrize(
    ("batch", "examples"),
    [
        (np.zeros((7, 2)), 7),
        ((np.zeros((5, 2)), np.zeros(5)), 5),
        ({"image": [np.zeros((3, 2))], "label": np.zeros(3)}, 3),
        ((), 1),
        (4.0, 1),
    ],
)
def test_a_batch_is_as_large_as_its_first_array(batch: Any, examples: int) -> None:
    assert examples_of(batch) == examples


@pytest.mark.timing
def test_planted_waits_are_read_in_a_loop() -> None:
    def slow() -> Any:
        for _ in range(60):
            time.sleep(0.006)
            yield np.zeros((4, 2))

    watched = watch(slow(), say=silent)
    for _ in watched:
        time.sleep(0.014)
    assert 0.27 <= watched.wait_fraction <= 0.33
