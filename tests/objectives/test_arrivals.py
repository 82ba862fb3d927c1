"""When elements arrive and where a generator pauses: exact on a fake clock, then in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from prefetch_tuning.objectives.arrivals import (
    LEAST_ELEMENTS,
    MOST_TIMES,
    Arrivals,
    record_arrivals,
)
from prefetch_tuning.objectives.process.runner import TrialRunner
from tests.planted.pipelines import Pausing
from tests.support.fakes import FakeClock

EACH_S = 1 / 128


def recorded(gap_s: Callable[[int], float], most_s: float = 30.0, most_pauses: int = 3) -> Arrivals:
    """A recording of elements of which number n (from 0) takes `gap_s(n)` seconds."""
    clock = FakeClock()

    def elements() -> Iterator[int]:
        number = 0
        while True:
            clock.now += gap_s(number)
            yield number
            number += 1

    return record_arrivals(elements(), most_s, most_pauses, clock)


def test_pauses_are_found_where_they_are() -> None:
    # Planted: a pause of 1 s before every 640th element.
    found = recorded(lambda n: 1.0 if n and n % 640 == 0 else EACH_S)

    assert [(p.begin_s, p.seconds, p.elements) for p in found.pauses] == [
        (639 * EACH_S, 1.0, 639),
        (639 * EACH_S + 1.0 + 639 * EACH_S, 1.0, 1_279),
        (639 * EACH_S + 2.0 + 2 * 639 * EACH_S, 1.0, 1_919),
    ]
    assert found.seconds == found.pauses[-1].begin_s + 1.0
    assert found.times_s == sorted(found.times_s)
    assert len(found.times_s) == 1_920


def test_the_first_element_may_take_long() -> None:
    assert recorded(lambda n: 5.0 if n == 0 else EACH_S, most_s=2.0).pauses == []


@pytest.mark.parametrize("gap_s", [0.3, 2.0])
def test_a_slow_generator_does_not_pause(gap_s: float) -> None:
    found = recorded(lambda n: gap_s)

    assert found.pauses == []
    assert found.seconds == pytest.approx(30.0, abs=gap_s)


def test_a_gap_too_early_to_know_the_mean_is_no_pause() -> None:
    assert recorded(lambda n: 1.0 if n == LEAST_ELEMENTS else EACH_S, most_s=3.0).pauses == []
    assert len(recorded(lambda n: 1.0 if n == LEAST_ELEMENTS + 1 else EACH_S, 3.0).pauses) == 1


def test_a_generator_that_is_slow_behind_a_queue_does_not_pause() -> None:
    # Planted: 20 elements are there at once, and then one every 0.3 s.
    found = recorded(lambda n: EACH_S if n < 20 else 0.3, most_s=3.0)

    assert len(found.pauses) == 1


def test_fast_elements_are_thinned_out_evenly() -> None:
    found = recorded(lambda n: 1e-4, most_s=3.0)

    assert found.every == 8
    assert MOST_TIMES / 2 <= len(found.times_s) < MOST_TIMES
    assert found.times_s[99] == pytest.approx(100 * 8 * 1e-4)


def test_a_real_generator_is_recorded_in_its_own_process(runner: TrialRunner) -> None:
    found = runner.record_arrivals("tests.planted.pipelines:Pausing", 0, 20.0, 2)

    assert isinstance(found, Arrivals), found
    assert len(found.pauses) == 2
    assert max(pause.seconds for pause in found.pauses) >= Pausing.PAUSE_S
