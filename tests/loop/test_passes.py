"""What the first pass over data that is then cached means for a whole training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prefetch_tuning.objectives.loop.passes import FirstPass


def passed(seconds: float, *, whole: bool = True) -> FirstPass:
    return FirstPass(digests=[], examples=1_000, seconds=seconds, whole=whole)


@pytest.mark.parametrize(
    ("passes", "rate"),
    [
        (None, 1_000.0),  # only the later passes count
        (1.0, 100.0),
        (0.4, 100.0),  # a training that ends within its first pass
        (2.0, 2_000 / 11),  # 10 s and 1 s
        (10.0, 10_000 / 19),
    ],
)
def test_the_mean_over_the_passes_of_a_training(passes: float | None, rate: float) -> None:
    assert passed(10.0).mean_rate(1_000.0, passes) == pytest.approx(rate)


def test_the_step_may_be_slower_than_the_first_pass() -> None:
    assert passed(0.1).mean_rate(1_000.0, 3.0) == pytest.approx(1_000.0)


def test_the_cpu_time_of_the_first_pass_is_shared_by_all() -> None:
    first = replace(passed(10.0), cpu_s=8.0)

    assert first.mean_cpu_s(0.001, None) == 0.001
    assert first.mean_cpu_s(0.001, 4.0) == pytest.approx(0.001 + 0.008 / 4)


def test_a_pass_that_was_cut_off_says_nothing() -> None:
    assert passed(30.0, whole=False).mean_rate(1_000.0, 3.0) == 1_000.0
