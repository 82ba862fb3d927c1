"""Verdicts from made-up rounds, so the truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from prefetch_tuning.experiments.verdict.confirmation import Confirmation, conclude
from prefetch_tuning.experiments.verdict.measurements import Round, RoundMeasurement
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines.config import PipelineConfig

CONFIGS = {
    "tuned-1": PipelineConfig(batch_size=8, prefetch_buffer=16, map_parallelism=4),
    "tuned-2": PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=2),
    "autotune": PipelineConfig.autotune(8),
    "no_prefetch": PipelineConfig.no_prefetch(8),
}
# The host's speed in each round. Rounds differ far more than candidates do.
HOST = (1.0, 0.7, 1.3, 0.9, 1.1, 0.8, 1.2, 0.75, 1.05)


def measured(rate: float, peak_mib: float = 50.0, first_batch_s: float = 0.1) -> RoundMeasurement:
    return RoundMeasurement(
        examples_per_s=rate,
        host_peak_mib=peak_mib,
        device_peak_mib=None,
        cpu_s_per_example=0.001,
        host_wait_fraction=0.3,
        first_batch_s=first_batch_s,
        ceilings=None,
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


def decide(found: Sequence[Round], **options: Any) -> Confirmation:
    return conclude(CONFIGS, found, **{"cores": 2, "tolerance": 0.02, **options})


def test_a_difference_within_each_round_is_found_through_the_hosts_noise() -> None:
    found = decide(rounds({"tuned-1": 1_100, "tuned-2": 1_000, "autotune": 1_000}))

    assert found.speedup is not None
    assert found.speedup.verdict == "faster"
    assert found.speedup.ratio == pytest.approx(1.1)
    assert found.speedup.ci.low == pytest.approx(1.1)
    assert (found.speedup.candidate, found.speedup.baseline) == ("tuned-1", "autotune")
    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-1"
    assert found.recommended.reason == "the fastest confirmed configuration"


# Chance's factor for one of two equally fast candidates in each round: neither is proven faster.
NOISE = (1.0, 0.97, 0.99, 1.0, 1.01, 0.96, 0.98, 0.96, 1.0)


def equally_fast(peaks: dict[str, float] | None = None, **first_batch_s: float) -> list[Round]:
    """tuned-1 has a slightly higher median, but the rounds don't tell the two apart."""
    peaks = peaks or {}
    rates = {"tuned-1": 1_210.0, "tuned-2": 1_210.0, "autotune": 1_000.0}
    return [
        {
            name: measured(
                rate * factor * (noise if name == "tuned-2" else 1.0),
                peaks.get(name, 50.0),
                first_batch_s.get(name.replace("-", "_"), 0.1),
            )
            for name, rate in rates.items()
        }
        for factor, noise in zip(HOST, NOISE, strict=True)
    ]


def recommended(found: Confirmation) -> str:
    assert found.recommended is not None
    return found.recommended.candidate


def test_of_equally_fast_ones_the_leanest_is_recommended() -> None:
    found = decide(equally_fast({"tuned-1": 90.0, "tuned-2": 60.0}))

    assert recommended(found) == "tuned-2"
    assert found.recommended is not None
    assert found.recommended.host_peak_mib == 60.0
    assert found.recommended.reason == "as fast as the fastest, with 67% of its memory"
    assert found.speedup is not None
    assert found.speedup.candidate == "tuned-2"


def test_a_few_mib_do_not_decide() -> None:
    """Seen: 13,314 (8,952 to 14,847) was preferred to 13,448 (11,940 to 14,526) for 6 MiB."""
    assert recommended(decide(equally_fast({"tuned-1": 115.0, "tuned-2": 109.0}))) == "tuned-1"


def test_memory_within_its_noise_does_not_decide() -> None:
    found = equally_fast()
    for index, peak in enumerate((30.0, 80.0, 35.0, 90.0, 40.0, 85.0, 38.0, 60.0, 42.0)):
        lean = found[index]["tuned-2"].model_copy(update={"host_peak_mib": peak})
        found[index] = {**found[index], "tuned-2": lean}

    assert recommended(decide(found)) == "tuned-1"


def test_of_equally_fast_and_lean_ones_the_earlier_first_batch_decides() -> None:
    """Seen: blocks of 693 elements of 2 ms each took 1.4 s to the first batch."""
    found = decide(equally_fast(tuned_1=1.5, tuned_2=0.1))

    assert recommended(found) == "tuned-2"
    assert found.recommended is not None
    assert found.recommended.reason == "as fast as the fastest, with its first batch 1.4 s earlier"
    assert recommended(decide(equally_fast(tuned_1=0.15, tuned_2=0.1))) == "tuned-1"


def test_the_lower_end_decides_between_a_steady_and_a_wild_one() -> None:
    wild = (0.55, 1.3, 0.6, 1.35, 1.02, 1.3, 0.6, 1.35, 1.02)
    found = [
        {
            "tuned-1": measured(1_220 * luck),
            "tuned-2": measured(1_200),
            "autotune": measured(1_000),
        }
        for luck in wild
    ]

    result = decide(found)
    assert result.candidates[0].candidate == "tuned-1"  # it leads by its median
    assert recommended(result) == "tuned-2"


def test_memory_is_not_bought_with_a_proven_loss_of_speed() -> None:
    rates = {"tuned-1": 1_210.0, "tuned-2": 1_190.0, "autotune": 1_000.0}
    found = decide(rounds(rates, {"tuned-1": 90.0, "tuned-2": 60.0}))

    assert recommended(found) == "tuned-1"


def test_a_baseline_that_fails_is_not_recommended() -> None:
    """Seen: AUTOTUNE was recommended though it was ten times slower and in only 7 of 9 rounds."""
    found = rounds({"tuned-1": 10_000.0, "autotune": 1_000.0})
    for index in (2, 5):
        found[index] = {"tuned-1": found[index]["tuned-1"]}

    result = decide(found)
    assert recommended(result) == "tuned-1"
    assert result.recommended is not None
    assert result.recommended.reason == (
        "AUTOTUNE gave no rate in 2 of 9 rounds; the fastest confirmed configuration"
    )
    assert result.speedup is not None
    assert (result.speedup.verdict, result.baseline_failures) == ("too few rounds", 2)


def test_a_baseline_that_failed_twice_in_many_rounds_still_counts() -> None:
    slower = rounds({"tuned-1": 900, "tuned-2": 800, "autotune": 1_000}, host=HOST * 2)
    without = [{n: m for n, m in r.items() if n != "autotune"} for r in slower[:2]]
    found = decide([*without, *slower[2:]])

    assert found.recommended is not None
    assert found.recommended.candidate == "autotune"


def test_what_is_proven_faster_is_preferred_to_what_may_be() -> None:
    """tuned-1 has the highest lower end, but isn't proven faster than AUTOTUNE; tuned-2 is."""
    own = [100.0] * 5 + [125.0] * 4
    found = decide(
        [
            {"tuned-1": measured(110), "tuned-2": measured(1.05 * r), "autotune": measured(r)}
            for r in own
        ]
    )

    assert found.recommended is not None
    assert found.recommended.candidate == "tuned-2"
    assert found.speedup is not None
    assert (found.speedup.candidate, found.speedup.verdict) == ("tuned-2", "faster")


def test_other_data_are_never_recommended() -> None:
    """Seen: thirty-two copies of the same data were recommended as 32x AUTOTUNE."""
    found = rounds({"tuned-1": 32_000.0, "tuned-2": 1_100.0, "autotune": 1_000.0})

    assert recommended(decide(found, other_data=["tuned-1"])) == "tuned-2"
    assert [c.same_data for c in decide(found, other_data=["tuned-1"]).candidates] == [
        False,
        True,
        True,
    ]


def test_a_candidate_that_left_is_not_recommended() -> None:
    found = rounds({"tuned-1": 1_200.0, "tuned-2": 3_000.0, "autotune": 1_000.0})
    kept = [{k: v for k, v in r.items() if k != "tuned-2" or i < 5} for i, r in enumerate(found)]

    assert recommended(decide(kept)) == "tuned-1"


IN_BLOCKS = {
    "tuned-1": CONFIGS["tuned-1"].model_copy(update={"generator_chunk": 64}),
    "tuned-2": CONFIGS["tuned-2"].model_copy(update={"generator_chunk": 32}),
    "structure_autotune": PipelineConfig.autotune(8, generator_chunk=64),
    "autotune": CONFIGS["autotune"],
}


def in_blocks(adaptive: float) -> Confirmation:
    rates = {"tuned-1": 5_000.0, "tuned-2": 4_000.0, "autotune": 1_000.0}
    found = [
        {**row, "structure_autotune": measured(adaptive * noise * row["autotune"].examples_per_s)}
        for row, noise in zip(rounds(rates), NOISE, strict=True)
    ]
    return conclude(IN_BLOCKS, found, cores=2, tolerance=0.02)


def test_autotune_on_the_structure_is_recommended_where_no_setting_is_proven_faster() -> None:
    result = in_blocks(adaptive=5.05)

    assert recommended(result) == "structure_autotune"
    assert result.recommended is not None
    assert result.recommended.config == IN_BLOCKS["structure_autotune"]
    assert result.speedup is not None
    assert result.speedup.ratio == pytest.approx(5.0, rel=0.02)


def test_settings_that_beat_autotune_on_the_same_structure_are_recommended() -> None:
    assert recommended(in_blocks(adaptive=3.0)) == "tuned-1"


def test_settings_that_are_faster_but_not_proven_so_beat_autotune_on_the_structure() -> None:
    rates = {"tuned-1": 5_000.0, "tuned-2": 4_000.0, "autotune": 1_000.0}
    noisy = (4_600.0, 3_300.0, 6_200.0) * 3
    found = [
        {**row, "structure_autotune": measured(rate)}
        for row, rate in zip(rounds(rates), noisy, strict=True)
    ]
    result = conclude(IN_BLOCKS, found, cores=2, tolerance=0.02)

    assert result.gain is not None
    assert result.gain.settings.verdict == "no significant difference"
    assert recommended(result) == "tuned-1"


WRITTEN = {**CONFIGS, "as_written": PipelineConfig.written(8)}


def as_written(**rates: float) -> Confirmation:
    found = rounds({name.replace("_", "-", 1) if "tuned" in name else name: rate
                    for name, rate in rates.items()})  # fmt: skip
    return conclude(WRITTEN, found, cores=2, tolerance=0.02)


def test_a_script_that_nothing_beats_stays_as_it_is() -> None:
    found = as_written(tuned_1=2_000.0, as_written=2_000.0, autotune=1_000.0)

    assert found.recommended is not None
    assert found.recommended.config == PipelineConfig.written(8)
    assert found.recommended.reason == "nothing is proven faster than the script as it is written"
    assert found.over_written is None
    # Neither is AUTOTUNE, which would be one more change.
    same = as_written(tuned_1=1_000.0, as_written=1_000.0, autotune=1_000.0)
    assert recommended(same) == "as_written"


def test_what_beats_the_script_is_compared_with_it() -> None:
    found = as_written(tuned_1=3_000.0, as_written=1_500.0, autotune=1_000.0)

    assert recommended(found) == "tuned-1"
    assert found.over_written is not None
    assert found.over_written.ratio == pytest.approx(2.0)
    assert found.speedup is not None
    assert found.speedup.ratio == pytest.approx(3.0)


def test_autotune_is_recommended_instead_of_a_slower_script() -> None:
    assert recommended(as_written(tuned_1=900.0, as_written=500.0, autotune=1_000.0)) == "autotune"


def test_the_gain_is_split_into_structure_and_settings() -> None:
    gain = in_blocks(adaptive=4.0).gain

    assert gain is not None
    assert gain.structure.ratio == pytest.approx(4.0, rel=0.02)
    assert (gain.settings.candidate, gain.settings.baseline) == ("tuned-1", "structure_autotune")
    assert gain.settings.ratio == pytest.approx(1.25, rel=0.02)
    assert gain.settings.verdict == "faster"
    assert decide(rounds({"tuned-1": 2_000, "autotune": 1_000})).gain is None


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
    assert found.recommended.reason == "AUTOTUNE failed; the fastest confirmed configuration"


def test_too_few_rounds_recommend_nothing() -> None:
    found = decide(rounds({"tuned-1": 2_000, "autotune": 1_000}, host=HOST[:8]))

    assert (found.speedup, found.recommended) == (None, None)
    assert found.candidates[0].ratio is not None
    assert found.candidates[0].ratio.verdict == "too few rounds"


def test_candidates_come_fastest_first_with_their_intervals() -> None:
    found = decide(rounds({"autotune": 900, "no_prefetch": 500, "tuned-1": 1_000}))

    assert [c.candidate for c in found.candidates] == ["tuned-1", "autotune", "no_prefetch"]
    best = found.candidates[0]
    assert best.rounds == 9
    assert best.examples_per_s == 1_000.0
    assert best.ci.low < 1_000.0 < best.ci.high
    assert best.cv == pytest.approx(np.std(HOST, ddof=1) / np.mean(HOST))


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
    """Hosts that are noisy, that wander, and that have slow spells; 200 comparisons each."""
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(200):
        host = np.exp(np.cumsum(rng.normal(0.0, drift, count)))
        sides = host * np.exp(rng.normal(0.0, spread, (2, count)))
        slow = rng.random((2, count)) < slow_share
        sides *= np.where(slow, rng.uniform(0.5, 0.9, (2, count)), 1.0)
        false += ratio_to(sides[0], sides[1]).verdict != "no significant difference"

    # The expected one in twenty, and two standard deviations of that count.
    assert false <= 10 + 2 * (200 * 0.05 * 0.95) ** 0.5


def test_the_best_of_three_equal_ones_is_not_proven_faster() -> None:
    """Picking the best one before comparing it must not turn luck into a verdict."""
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


def test_one_that_left_before_the_host_slowed_down_is_not_preferred() -> None:
    """Its own median is higher, but it was slower in every round that measured both."""
    fast = rounds({"tuned-1": 1_000.0, "tuned-2": 950.0, "autotune": 300.0})
    slow = rounds({"tuned-1": 500.0, "autotune": 150.0}, host=HOST * 2)

    assert recommended(decide([*fast, *slow])) == "tuned-1"


def test_a_gain_is_not_told_of_who_is_out_or_left() -> None:
    found = rounds(
        {"tuned-1": 900.0, "tuned-2": 600.0, "structure_autotune": 880.0, "autotune": 300.0}
    )

    def gain(kept: Sequence[Round], *out: str) -> object:
        return conclude(IN_BLOCKS, kept, cores=2, tolerance=0.02, other_data=out).gain

    assert gain(found) is not None
    assert gain(found, "structure_autotune") is None
    early = [
        {name: m for name, m in row.items() if number < 4 or name != "structure_autotune"}
        for number, row in enumerate(found)
    ]
    assert gain(early) is None


@pytest.mark.parametrize(("gain", "expected"), [(1.0, "ordered"), (1.2, "tuned-1")])
def test_another_order_must_be_proven_faster(gain: float, expected: str) -> None:
    reordered = CONFIGS["tuned-1"].model_copy(update={"reorder": True})
    configs = {**CONFIGS, "tuned-1": reordered, "ordered": CONFIGS["tuned-1"]}
    found = [
        {
            "tuned-1": measured(2_000.0 * gain * host),
            "ordered": measured(2_000.0 * host * noise, 90.0),
            "autotune": measured(1_000.0 * host),
        }
        for host, noise in zip(HOST, NOISE, strict=True)
    ]

    assert recommended(conclude(configs, found, cores=2, tolerance=0.02)) == expected
