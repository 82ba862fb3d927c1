"""Verdicts from rounds that are made up, so that the truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from experiments.verdict.confirmation import (
    Confirmation,
    Round,
    RoundMeasurement,
    conclude,
    precise,
)
from experiments.verdict.ratio import ratio_to
from objectives.measurement import Ceilings, Interval
from pipelines.config import PipelineConfig

CONFIGS = {
    "tuned-1": PipelineConfig(batch_size=8, prefetch_buffer=16, map_parallelism=4),
    "tuned-2": PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=2),
    "autotune": PipelineConfig.autotune(8),
    "no_prefetch": PipelineConfig.no_prefetch(8),
}
# What the host did to each round: rounds differ by far more than candidates.
HOST = (1.0, 0.7, 1.3, 0.9, 1.1, 0.8, 1.2, 0.75, 1.05)


def measured(
    rate: float, peak_mib: float = 50.0, ceilings: Ceilings | None = None
) -> RoundMeasurement:
    return RoundMeasurement(
        examples_per_s=rate,
        host_peak_mib=peak_mib,
        device_peak_mib=None,
        cpu_s_per_example=0.001,
        wait_fraction=0.3,
        ceilings=ceilings,
        mlflow_run_id="r",
    )


def rounds(
    rates: dict[str, float], peaks: dict[str, float] | None = None, host: Sequence[float] = HOST
) -> list[Round]:
    peaks = peaks or {}
    return [
        {name: measured(rate * factor, peaks.get(name, 50.0)) for name, rate in rates.items()}
        for factor in host
    ]


def decide(found: Sequence[Round], **options: float) -> Confirmation:
    return conclude(CONFIGS, found, **{"cores": 2, "tolerance": 0.02, **options})  # type: ignore[arg-type]


def test_a_difference_within_each_round_is_found_through_the_hosts_noise() -> None:
    found = decide(rounds({"tuned-1": 1_100, "tuned-2": 1_000, "autotune": 1_000}))

    assert found.speedup is not None
    assert found.speedup.verdict == "faster"
    assert found.speedup.ratio == pytest.approx(1.1)
    assert found.speedup.ci.low == pytest.approx(1.1)
    assert (found.speedup.candidate, found.speedup.baseline) == ("tuned-1", "autotune")
    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-1"
    assert found.recommended.reason == "the fastest confirmed"


def test_of_equally_fast_ones_the_leanest_is_recommended() -> None:
    rates = {"tuned-1": 1_210.0, "tuned-2": 1_200.0, "autotune": 1_000.0}
    found = decide(rounds(rates, {"tuned-1": 90.0, "tuned-2": 60.0}))

    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-2"
    assert found.recommended.host_peak_mib == 60.0
    assert found.recommended.reason == "the leanest of 2 within 2 % of the fastest confirmed"
    assert found.speedup is not None
    assert found.speedup.ratio == pytest.approx(1.2)


def test_memory_is_not_bought_with_more_than_the_tolerance() -> None:
    rates = {"tuned-1": 1_210.0, "tuned-2": 1_180.0, "autotune": 1_000.0}
    found = decide(rounds(rates, {"tuned-1": 90.0, "tuned-2": 60.0}))

    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-1"
    assert decide(rounds(rates, {"tuned-1": 90.0}), tolerance=0.05).recommended != found.recommended


def test_if_nothing_is_faster_autotune_is_recommended() -> None:
    found = decide(rounds({"tuned-1": 1_000, "tuned-2": 900, "autotune": 1_000}))

    assert found.speedup is not None
    assert found.speedup.verdict == "no significant difference"
    assert found.recommended is not None
    assert found.recommended.config == PipelineConfig.autotune(8)
    assert "AUTOTUNE" in found.recommended.reason


def test_slower_is_said_too() -> None:
    found = decide(rounds({"tuned-1": 900, "autotune": 1_000}))

    assert found.speedup is not None
    assert found.speedup.verdict == "slower"


def test_a_baseline_over_the_memory_limit_is_not_recommended() -> None:
    rates = {"tuned-1": 1_000.0, "autotune": 1_000.0}
    found = decide(rounds(rates, {"autotune": 500.0}), memory_limit_mib=100.0)

    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-1"
    assert found.recommended.reason.startswith("AUTOTUNE needs more than the memory limit")


def test_without_the_baseline_there_is_no_speedup() -> None:
    found = decide(rounds({"tuned-1": 1_000, "tuned-2": 900}))

    assert found.speedup is None
    assert found.recommended is not None
    assert found.recommended.reason == "AUTOTUNE failed; the fastest confirmed"


def test_too_few_rounds_recommend_nothing() -> None:
    found = decide(rounds({"tuned-1": 2_000, "autotune": 1_000}, host=HOST[:8]))

    assert (found.speedup, found.recommended) == (None, None)
    assert found.candidates[0].ratio is not None
    assert found.candidates[0].ratio.verdict == "no significant difference"


def test_candidates_come_fastest_first_with_their_intervals() -> None:
    found = decide(rounds({"autotune": 900, "no_prefetch": 500, "tuned-1": 1_000}))

    assert [c.candidate for c in found.candidates] == ["tuned-1", "autotune", "no_prefetch"]
    best = found.candidates[0]
    assert best.rounds == 9
    assert best.examples_per_s == 1_000.0
    assert best.ci.low < 1_000.0 < best.ci.high
    assert best.cv == pytest.approx(np.std(HOST, ddof=1) / np.mean(HOST))


def test_the_limit_is_the_least_term_and_rounds_are_held_against_their_own() -> None:
    """What the host did to a round, it did to the loop and to its limit."""
    found = decide(
        [
            {
                "tuned-1": measured(
                    1_000.0 * factor,
                    ceilings=Ceilings(
                        producer_only=1_250.0 * factor,
                        consumer_only=4_000.0,
                        consumer_cores=1.2,
                        measured_s=1.0,
                    ),
                )
            }
            for factor in HOST
        ]
    )

    limit = found.candidates[0].limit
    assert limit is not None
    assert limit.binding == "producer_only"
    assert limit.examples_per_s == 1_250.0
    assert limit.fraction == pytest.approx(0.8)
    assert (limit.fraction_ci.low, limit.fraction_ci.high) == pytest.approx((0.8, 0.8))
    assert limit.terms.cpu == pytest.approx(2 / 0.001)


def test_rounds_go_on_until_the_ratio_is_known() -> None:
    wide = rounds({"tuned-1": 1_000, "autotune": 1_000})
    for index, found in enumerate(wide):
        wide[index] = {**found, "tuned-1": measured(1_000 * HOST[-1 - index])}

    assert not precise(CONFIGS, wide)
    assert precise(CONFIGS, rounds({"tuned-1": 1_000, "autotune": 1_000}))
    assert not precise(CONFIGS, rounds({"tuned-1": 1_000, "autotune": 1_000}, host=HOST[:8]))
    assert precise(CONFIGS, rounds({"tuned-1": 1_000}))


def test_the_same_rounds_give_the_same_interval() -> None:
    above, below = [r * 1_000 for r in HOST], [r * 900 for r in reversed(HOST)]

    assert ratio_to(above, below) == ratio_to(above, below)
    assert ratio_to([1.0], [1.0]).ci == Interval(low=0.0, high=float("inf"))


@pytest.mark.parametrize(
    ("drift", "spread", "slow_share"), [(0.0, 0.08, 0.0), (0.05, 0.06, 0.1), (0.0, 0.03, 0.2)]
)
@pytest.mark.parametrize("count", [9, 15])
def test_equal_configurations_are_called_different_in_one_of_twenty_at_most(
    drift: float, spread: float, slow_share: float, count: int
) -> None:
    """Hosts that wander, that are just noisy, and that have slow spells; 200 comparisons each."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(200):
        host = np.exp(np.cumsum(rng.normal(0.0, drift, count)))
        sides = host * np.exp(rng.normal(0.0, spread, (2, count)))
        slow = rng.random((2, count)) < slow_share
        sides *= np.where(slow, rng.uniform(0.5, 0.9, (2, count)), 1.0)
        false += ratio_to(sides[0], sides[1]).verdict != "no significant difference"

    # Two standard deviations of a count with the expected share of one in twenty.
    assert false <= 10 + 2 * (200 * 0.05 * 0.95) ** 0.5


def test_the_best_of_three_equal_ones_is_not_proven_faster() -> None:
    """Picking the best before comparing it must not make luck a verdict."""
    rng = np.random.default_rng(8)
    false = 0
    for _ in range(100):
        rates = 1_000 * np.exp(rng.normal(0.0, 0.08, (4, 9)))
        names = ("tuned-1", "tuned-2", "tuned-3", "autotune")
        found = [{n: measured(r) for n, r in zip(names, row, strict=True)} for row in rates.T]
        configs = {**CONFIGS, "tuned-3": CONFIGS["tuned-2"]}
        result = conclude(configs, found, cores=2, tolerance=0.02)
        false += result.recommended is not None and result.recommended.candidate != "autotune"

    assert false <= 5 + 2 * (100 * 0.05 * 0.95) ** 0.5
