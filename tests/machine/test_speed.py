"""Readings of the host's speed, against a fake clock."""

from __future__ import annotations

import pytest

from prefetch_tuning.objectives.machine import speed
from prefetch_tuning.objectives.machine.speed import HostSpeed, speed_index


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time, and how long the fixed work takes."""
    state = {"now": 100.0, "work": 0.005}
    monkeypatch.setattr("time.monotonic", lambda: state["now"])
    monkeypatch.setattr(speed, "time_fixed_work", lambda: state["work"])
    return state


def test_the_reading_after_a_trial_is_the_one_before_the_next(host: dict[str, float]) -> None:
    found = HostSpeed()
    assert found.before() == 0.005  # there is none yet

    host |= {"now": 103.0, "work": 0.006}
    assert found.after() == 0.006

    host |= {"now": 103.9, "work": 0.007}
    assert found.before() == 0.006


def test_an_old_reading_is_not_used(host: dict[str, float]) -> None:
    found = HostSpeed()
    found.after()

    host |= {"now": 101.1, "work": 0.009}
    assert found.before() == 0.009


def test_a_host_that_takes_twice_as_long_has_half_the_index() -> None:
    once = speed.REFERENCE_S
    assert speed_index(once, once) == 1.0
    assert speed_index(2 * once, 2 * once) == 0.5
