"""Which candidates need no more rounds, and when there are enough, by made-up rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from prefetch_tuning.experiments.verdict.confirmation import conclude
from prefetch_tuning.experiments.verdict.leaving import beaten, enough, leader
from prefetch_tuning.experiments.verdict.measurements import Round
from tests.verdict.test_confirmation import HOST, IN_BLOCKS, measured, rounds

NAMES = ("tuned-1", "tuned-2", "structure_autotune", "autotune", "no_prefetch")


def made(rates: dict[str, float], count: int = 9) -> list[Round]:
    return rounds(rates, host=(HOST * 3)[:count])


def test_who_is_far_behind_in_every_round_leaves_early() -> None:
    rates = {"tuned-1": 1_000.0, "tuned-2": 900.0, "no_prefetch": 200.0}

    assert beaten(NAMES, made(rates, 1)) == set()
    assert beaten(NAMES, made(rates, 2)) == {"no_prefetch"}
    behind = {"tuned-1": 1_000.0, "basic": 650.0}
    assert beaten((*NAMES, "basic"), made(behind, 2)) == set()
    assert beaten((*NAMES, "basic"), made(behind, 3)) == {"basic"}


def test_who_is_a_little_behind_leaves_by_its_interval() -> None:
    rates = {"tuned-1": 1_000.0, "structure_autotune": 930.0}

    assert beaten(NAMES, made(rates, 5)) == set()
    assert beaten(NAMES, made(rates, 6)) == {"structure_autotune"}


def test_of_tuned_ones_that_are_alike_the_better_one_goes_on_alone() -> None:
    rates = {"structure_autotune": 1_010.0, "tuned-1": 1_000.0, "tuned-2": 990.0}

    assert beaten(NAMES, made(rates, 3)) == set()
    assert beaten(NAMES, made(rates, 4)) == {"tuned-2"}


@pytest.mark.parametrize("better", [{"host_peak_mib": 40.0}, {"first_batch_s": -0.2}])
def test_one_that_is_leaner_or_starts_earlier_stays(better: dict[str, float]) -> None:
    found = [
        {**row, "tuned-2": row["tuned-2"].model_copy(update=better)}
        for row in made({"tuned-1": 1_000.0, "tuned-2": 990.0})
    ]

    assert beaten(NAMES, found[:5]) == set()


def test_one_that_needs_less_of_the_gpus_memory_stays() -> None:
    found = [
        {
            "tuned-1": measured(1_000).model_copy(update={"device_peak_mib": 4_000.0}),
            "tuned-2": measured(995).model_copy(update={"device_peak_mib": 2_000.0}),
        }
        for _ in range(5)
    ]

    assert beaten(["tuned-1", "tuned-2"], found) == set()


def test_one_good_round_keeps_a_candidate() -> None:
    found = made({"tuned-1": 1_000.0, "basic": 450.0}, 4)
    found[1] = {**found[1], "basic": measured(2_000.0)}

    assert beaten(NAMES, found) == set()


def test_autotune_never_leaves_and_the_leader_is_no_baseline() -> None:
    assert beaten(NAMES, made({"tuned-1": 1_000.0, "autotune": 10.0})) == set()
    # A candidate that is slower than AUTOTUNE may still be the best tuned one.
    assert beaten(NAMES, made({"tuned-1": 500.0, "autotune": 1_000.0})) == set()
    assert beaten(NAMES, []) == set()


def test_a_ratio_far_from_one_needs_no_narrow_interval() -> None:
    """The host's noise differs between the two sides of a round, so the interval is wide."""
    wide = [
        {"tuned-1": measured(3_000 * HOST[-1 - i]), "autotune": measured(1_000 * factor)}
        for i, factor in enumerate(HOST)
    ]
    near = [
        {"tuned-1": measured(1_000 * HOST[-1 - i]), "autotune": measured(1_000 * factor)}
        for i, factor in enumerate(HOST)
    ]

    assert enough(("tuned-1", "autotune"), wide)
    assert not enough(("tuned-1", "autotune"), near)
    assert enough(("tuned-1", "autotune"), made({"tuned-1": 1_000.0, "autotune": 1_000.0}))
    assert not enough(("tuned-1", "autotune"), wide[:8])


def test_the_question_between_structure_and_settings_is_open_too() -> None:
    rates = {"tuned-1": 5_000.0, "autotune": 1_000.0}
    found = [
        {**row, "structure_autotune": measured(5_000 * HOST[-1 - i])}
        for i, row in enumerate(made(rates))
    ]

    assert not enough(("tuned-1", "structure_autotune", "autotune"), found)
    assert enough(("tuned-1", "autotune"), found)


def test_rounds_without_autotune_do_not_count_for_the_ratio_to_it() -> None:
    found = made({"tuned-1": 2_000.0, "autotune": 1_000.0})
    found[0] = {"tuned-1": found[0]["tuned-1"]}

    assert not enough(("tuned-1", "autotune"), found)
    assert enough(("tuned-1",), found)


@pytest.mark.parametrize(
    ("drift", "spread", "slow_share"), [(0.0, 0.08, 0.0), (0.05, 0.06, 0.1), (0.0, 0.03, 0.2)]
)
def test_an_equal_candidate_is_hardly_ever_sent_away(
    drift: float, spread: float, slow_share: float
) -> None:
    """Hosts that are noisy, that wander, and that have slow spells; 200 confirmations each."""
    rng = np.random.default_rng(9)
    sent = 0
    for _ in range(200):
        host = np.exp(np.cumsum(rng.normal(0.0, drift, 9)))
        sides = host * np.exp(rng.normal(0.0, spread, (2, 9)))
        slow = rng.random((2, 9)) < slow_share
        sides *= np.where(slow, rng.uniform(0.5, 0.9, (2, 9)), 1.0)
        sent += _left(sides)

    # The expected one in twenty, and two standard deviations of that count.
    assert sent <= 10 + 2 * (200 * 0.05 * 0.95) ** 0.5


def _left(sides: Any) -> bool:
    found = [{"tuned-1": measured(a), "basic": measured(b)} for a, b in zip(*sides, strict=True)]
    return any(beaten(("tuned-1", "basic"), found[:count]) for count in range(3, 10))


HOSTS = [(0.0, 0.08, 0.0), (0.05, 0.06, 0.1), (0.0, 0.03, 0.2)]


@pytest.mark.parametrize(("drift", "spread", "slow_share"), HOSTS)
def test_of_equal_candidates_none_is_recommended_over_autotune(
    drift: float, spread: float, slow_share: float
) -> None:
    """Whole confirmations in which no candidate is faster, and beaten ones leave."""
    rng = np.random.default_rng(10)
    false = 0
    for _ in range(CONFIRMATIONS):
        found = _equal_rounds(rng, drift, spread, slow_share)
        result = conclude(IN_BLOCKS, found, cores=2, tolerance=0.02)
        assert result.recommended is not None
        false += result.recommended.candidate != "autotune"

    # The expected one in twenty, and two standard deviations of that count.
    assert false <= 0.05 * CONFIRMATIONS + 2 * (CONFIRMATIONS * 0.05 * 0.95) ** 0.5


CONFIRMATIONS = 100


def _equal_rounds(
    rng: np.random.Generator, drift: float, spread: float, slow_share: float
) -> list[Round]:
    """Nine rounds of equally fast candidates, which leave as they do in a confirmation."""
    found: list[Round] = []
    host = 1_000.0
    for _ in range(9):
        host *= float(np.exp(rng.normal(0.0, drift)))
        row = {}
        for name in IN_BLOCKS:
            slow = rng.uniform(0.5, 0.9) if rng.random() < slow_share else 1.0
            row[name] = measured(host * slow * float(np.exp(rng.normal(0.0, spread))))
        left = beaten(IN_BLOCKS, found)
        found.append({name: m for name, m in row.items() if name not in left})
    return found


def test_the_leader_is_the_faster_one_of_the_rounds_that_both_were_in() -> None:
    """A candidate that left before the host slowed down has a higher median over its rounds."""
    fast = made({"tuned-1": 1_000.0, "structure_autotune": 950.0}, 3)
    slow = made({"tuned-1": 500.0}, 9)

    assert leader(NAMES, fast) == "tuned-1"
    assert leader(NAMES, [*fast, *slow]) == "tuned-1"


def test_a_scripts_own_chain_never_leaves() -> None:
    rates = {"tuned-1": 1_000.0, "as_written": 100.0, "no_prefetch": 100.0}

    assert beaten((*NAMES, "as_written"), made(rates, 9)) == {"no_prefetch"}
