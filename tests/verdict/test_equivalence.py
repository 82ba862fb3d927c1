"""The test of equivalence: its bounds, and how often it errs in thousands of simulated checks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.check_power import (
    FORTY,
    MARGIN,
    NOISES,
    Ends,
    Values,
    disturbed,
    simulated,
)
from prefetch_tuning.experiments.verdict.equivalence import (
    LEVEL,
    LOOKS,
    SEEN,
    Equivalence,
    is_look,
    judge,
    most_against,
    side_of,
)

THRESHOLD = math.log1p(-MARGIN)
# A share of 2,000 checks is 0.05 within 0.015 in 998 of 1,000 cases.
CHECKS, TOLERANCE = 2_000, 0.015


def rounds(slowdown: float, cv: float, checks: int = CHECKS, seed: int = 0) -> Values:
    return simulated(slowdown, cv, checks, seed)


def ends(values: Values, most: int = LOOKS[-1]) -> dict[int, float]:
    """The share of checks that end as not slower (1) or slower (-1) within `most` rounds."""
    found = Ends(values)
    return {side: found.share(side, most) for side in (1, -1)}


@pytest.mark.parametrize("noise", NOISES)
def test_a_slowdown_of_10_percent_is_caught_and_equal_speeds_raise_no_alarm(noise: float) -> None:
    assert ends(rounds(0.10, noise))[-1] >= 0.99
    assert ends(rounds(0.0, noise))[-1] <= 0.001
    assert ends(rounds(0.0, noise))[1] >= 0.99


@pytest.mark.parametrize(
    ("noise", "caught", "passed"), [(0.03, 0.999, 0.999), (0.06, 0.91, 0.89), (0.10, 0.48, 0.43)]
)
def test_what_forty_rounds_are_enough_for(noise: float, caught: float, passed: float) -> None:
    """docs/check.md has these shares."""
    slower, equal = ends(rounds(0.10, noise), FORTY), ends(rounds(0.0, noise), FORTY)

    assert caught <= slower[-1] <= caught + 0.07
    assert passed <= equal[1] <= passed + 0.07
    assert slower[1] <= 0.005
    assert equal[-1] <= 0.001


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    "make", [rounds, lambda *of: disturbed(rounds(*of))], ids=("plain", "disturbed")
)
def test_at_the_margin_itself_each_side_errs_in_5_percent(
    noise: float, make: Callable[..., Values]
) -> None:
    """The hardest case: the rate is lower by exactly the margin. Either answer is an error."""
    found = ends(make(MARGIN, noise))

    assert 0.02 <= found[1] <= 0.05 + TOLERANCE
    assert 0.02 <= found[-1] <= 0.05 + TOLERANCE


def test_the_last_look_may_come_early() -> None:
    """The time is over between two looks, after a number of rounds that has no reason."""
    values = rounds(MARGIN, 0.06)
    found = np.zeros(len(values), np.int8)
    last = np.random.default_rng(5).integers(LOOKS[0], LOOKS[-1], len(values))
    for number in range(LOOKS[0], LOOKS[-1]):
        looks = (last == number) | (is_look(number) & (number < last))
        open_now = looks & (found == 0)
        found[open_now] = side_of(values[open_now, :number], THRESHOLD)

    assert np.mean(found == 1) <= 0.05 + TOLERANCE
    assert np.mean(found == -1) <= 0.05 + TOLERANCE


@pytest.mark.parametrize("noise", NOISES)
def test_disturbed_rounds_cost_little(noise: float) -> None:
    slower, equal = (disturbed(rounds(slowdown, noise)) for slowdown in (0.10, 0.0))

    assert ends(slower)[-1] >= 0.99
    assert ends(equal)[-1] <= 0.001
    # A t-test decides 82% of these checks within forty rounds at a noise of 3%.
    if noise == 0.03:
        assert ends(slower, FORTY)[-1] >= 0.99
        assert ends(equal, FORTY)[1] >= 0.99


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("count", [LOOKS[1], FORTY])
def test_the_visible_slowdown_is_seen_in_4_of_5_checks(noise: float, count: int) -> None:
    equal = rounds(0.0, noise)[:300, :count]
    said = [judge(list(values), MARGIN).visible_slowdown for values in equal]
    visible = float(np.median([each for each in said if each is not None]))

    seen = np.mean(side_of(rounds(visible, noise)[:, :count], THRESHOLD) == -1)

    assert SEEN == 4 / 5
    assert 0.72 <= seen <= 0.92


@given(
    st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=45),
    st.floats(0.001, 0.3),
)
def test_the_decision_is_where_the_interval_is(values: list[float], margin: float) -> None:
    found = judge(values, margin)

    low, high = found.ci.low, found.ci.high
    assert low <= found.ratio <= high
    limit = 1.0 - margin
    close = 1e-9  # the interval is made of means, so the last digit may differ
    if found.decision == "not slower":
        assert low >= limit - close
    elif found.decision == "slower":
        assert high <= limit + close
    else:
        assert low <= limit + close
        assert high >= limit - close


def test_the_exact_distribution_is_scipys() -> None:
    for count in (8, 12, 18):
        most = most_against(count)
        assert most is not None
        tails = []
        for rank_sum in (most, most + 1):
            # Values with these ranks on the negative side have this rank sum.
            signs = np.ones(count)
            left = rank_sum
            for rank in range(count, 0, -1):
                if rank <= left:
                    signs[rank - 1], left = -1.0, left - rank
            values = signs * np.arange(1, count + 1)
            tails.append(stats.wilcoxon(values, alternative="greater", method="exact").pvalue)
        assert tails[0] <= LEVEL < tails[1]


def test_too_few_rounds_decide_nothing_however_clear_they_are() -> None:
    found = judge([math.log(0.1)] * 6, MARGIN)

    assert found.decision == "undecided"
    assert (found.ci.low, found.ci.high) == (0.0, math.inf)
    assert found.visible_slowdown is None
    assert found.ratio == pytest.approx(0.1)
    assert most_against(6) is None
    assert [count for count in range(1, 400) if is_look(count)] == list(LOOKS)


def test_a_host_without_noise_needs_the_first_look_only() -> None:
    def after(ratio: float) -> Equivalence:
        return judge([math.log(ratio)] * LOOKS[0], MARGIN)

    assert after(1.0).decision == "not slower"
    assert after(0.9501).decision == "not slower"
    assert after(0.9499).decision == "slower"
    assert after(1.0).noise == 0.0
    assert after(1.0).visible_slowdown == pytest.approx(MARGIN)


def test_the_noise_is_that_of_a_single_measurement() -> None:
    [values] = rounds(0.0, 0.06, checks=1)

    assert judge(list(values), MARGIN).noise == pytest.approx(0.06, rel=0.15)
    one_slow_round = [*values[:40], -3.0]
    assert judge(one_slow_round, MARGIN).noise == pytest.approx(0.06, rel=0.35)
