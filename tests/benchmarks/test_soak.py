"""A short soak: trials of a pipeline that fails in one of five, and what they leave behind."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import planted
from benchmarks.soak.__main__ import run, table
from benchmarks.soak.kills import Account, in_words
from benchmarks.soak.readings import Reading, slope

TRIALS = 12


@pytest.mark.slow
def test_trials_that_fail_leave_no_process_and_no_descriptor(tmp_path: Path) -> None:
    readings, ended = run(tmp_path, TRIALS)

    assert sum(ended.values()) == TRIALS
    assert len(readings) == TRIALS
    assert readings[-1].descriptors <= readings[1].descriptors + 2
    assert readings[-1].threads <= readings[1].threads + 1
    # Other tests of this process may have started some.
    assert readings[-1].processes <= readings[1].processes + 1


def test_about_one_trial_in_five_fails_whatever_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("planted")

    monkeypatch.setattr(planted, "FAULTS", (fail,))
    failed = 0
    for _ in range(200):
        random.seed(0)  # as each trial does
        try:
            for _ in zip(range(planted.AFTER + 2), planted.Unsteady().generate(0), strict=False):
                pass
        except ValueError:
            failed += 1
    assert 15 < failed < 70  # 40 ± 6


def test_growth_is_the_slope_once_the_caches_are_full() -> None:
    values = [900.0, 990.0, *(1_000.0 + 3.0 * number for number in range(38))]

    found = slope(values)
    assert found.low < 3.0001
    assert found.high > 2.9999
    assert found.value == pytest.approx(3.0)


def test_the_table_says_what_grew() -> None:
    readings = [Reading(1024.0 * (100 + n), 20, 5, 1) for n in range(20)]
    lines = list(table(readings, Counter({"complete": 15, "timeout": 5}), 0, 120.0))

    assert "20 trials in 2 minutes (15 complete, 5 timeout)" in lines[0]
    assert any("1024.0 (1024.0 to 1024.0) KiB" in line for line in lines)


def test_killed_studies_are_told_with_what_is_wrong() -> None:
    right = Account([], trials=12, rounds=9)
    wrong = Account(["trial 3 has 2 runs"], trials=11, rounds=9)

    assert "100 kills at random moments of 2 default studies" in in_words(
        100, [right, right], 1, 60.0
    )
    assert in_words(100, [right, right], 1, 60.0).endswith("each exactly once.")
    assert "2 at a time" in in_words(100, [right, wrong], 2, 60.0)
    assert in_words(100, [right, wrong], 2, 60.0).endswith("but 1 things are wrong.")
