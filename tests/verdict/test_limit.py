"""A pipeline's limit, from made-up terms. It is the same for every candidate."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.verdict.limit import MOST_PROCESSES, LimitRounds, processes_for
from prefetch_tuning.objectives.measurement import LimitTerms

TERMS = LimitTerms(
    step_examples_per_s=4_000.0,
    step_cores=1.2,
    generator_examples_per_s=1_000.0,
    generator_cpu_s=1e-3,
    map_cpu_s=2e-4,
    step_cpu_s=3e-4,
    measured_s=2.0,
)
HOST = (1.0, 0.7, 1.3, 0.9, 1.1, 0.8, 1.2, 0.75, 1.05)


def terms(factor: float = 1.0, **changes: Any) -> LimitTerms:
    """The terms on a host that is `factor` times as fast."""
    changed = TERMS.model_copy(update=changes)
    rates = {
        name: rate * factor if rate is not None else None
        for name in ("step_examples_per_s", "generator_examples_per_s")
        for rate in [getattr(changed, name)]
    }
    cpu = {
        name: getattr(changed, name) / factor
        for name in ("generator_cpu_s", "handed_cpu_s", "map_cpu_s", "step_cpu_s")
    }
    return changed.model_copy(update={**rates, **cpu})


@pytest.mark.parametrize(
    ("changes", "splittable", "binding", "limit"),
    [
        ({}, False, "generator", 1_000.0),
        # Two processes make twice as much. Then two cores limit, with 1.5 ms per example.
        ({}, True, "cpu", 2 / 1.5e-3),
        ({"step_examples_per_s": 800.0}, True, "step", 800.0),
        ({"generator_examples_per_s": None, "generator_cpu_s": 0.0}, False, "step", 4_000.0),
        ({"generator_cpu_s": 1e-5}, True, "cpu", 2 / 5.1e-4),
        ({"generator_cpu_s": 1e-5, "handed_cpu_s": 9e-5}, True, "cpu", 2 / 6e-4),
    ],
)
def test_the_limit_is_the_least_term(
    changes: dict[str, Any], splittable: bool, binding: str, limit: float
) -> None:
    found = LimitRounds([terms(**changes)] * 3, 2.0, splittable=splittable).limit

    assert found is not None
    assert found.binding == binding
    assert found.examples_per_s == pytest.approx(limit)


def test_other_hosts_help_the_generator_only() -> None:
    def limit(other_cores: float, **changes: Any) -> tuple[str, int, int]:
        rounds = [terms(**changes)] * 3
        found = LimitRounds(rounds, 2.0, splittable=True, other_cores=other_cores).limit
        assert found is not None
        return found.binding, round(found.examples_per_s), found.processes

    assert limit(0.0) == ("cpu", 1_333, 2)  # two cores for 1.5 ms
    # Four cores for 1.5 ms; then the two here for the 0.5 ms that only they can do, or the step.
    assert limit(2.0) == ("cpu", 2_667, 4)
    assert limit(6.0, step_examples_per_s=9_000.0) == ("cpu", 4_000, 8)
    assert limit(98.0, map_cpu_s=0.0) == ("step", 4_000, 100)


def test_what_the_host_did_to_a_round_it_did_to_its_limit() -> None:
    rounds = LimitRounds([terms(factor) for factor in HOST], 2.0, splittable=False)
    fraction = rounds.fraction([800.0 * factor for factor in HOST])

    assert fraction is not None
    assert fraction.share == pytest.approx(0.8)
    assert (fraction.ci.low, fraction.ci.high) == pytest.approx((0.8, 0.8))


def test_a_candidate_that_wastes_the_processor_does_not_look_better() -> None:
    """Seen: a limit from the candidate's own CPU seconds put one that wasted them at its limit."""
    rounds = LimitRounds([terms(factor) for factor in HOST], 2.0, splittable=False)
    wasteful = rounds.fraction([400.0 * factor for factor in HOST])

    assert wasteful is not None
    assert wasteful.share == pytest.approx(0.4)


def test_rounds_in_which_the_host_took_cpu_time_do_not_lower_the_limit() -> None:
    """Seen: the medians of five studies were 15% apart, because one had a busy neighbour."""
    quiet = [terms(step_examples_per_s=9_000.0, map_cpu_s=2e-3)] * 4
    disturbed = [terms(step_examples_per_s=9_000.0, map_cpu_s=4e-3)] * 5
    rounds = LimitRounds([*quiet, *disturbed], 2.0, splittable=True)
    fraction = rounds.fraction([303.0] * 9)

    assert rounds.limit is not None
    assert rounds.limit.binding == "cpu"
    assert rounds.limit.examples_per_s == pytest.approx(2 / 3.3e-3)
    assert fraction is not None
    assert fraction.share == pytest.approx(0.5, rel=1e-3)


def test_the_generators_pauses_lower_its_rate_and_so_the_limit() -> None:
    found = LimitRounds([terms()] * 3, 2.0, splittable=False, flowing_share=0.8).limit

    assert found is not None
    assert found.binding == "generator"
    assert found.examples_per_s == pytest.approx(800.0)


def test_utilisation_is_the_share_of_the_steps_own_rate_round_by_round() -> None:
    rounds = LimitRounds([terms(factor) for factor in HOST], 2.0, splittable=False)
    found = rounds.utilisation([3_000.0 * factor for factor in HOST])

    # The generator sets the limit, at 1,000 examples/s. A step alone would take 4,000.
    assert found is not None
    assert (found.share, found.ci.low, found.ci.high) == pytest.approx((0.75, 0.75, 0.75))


def test_rounds_without_terms_or_without_the_candidate_do_not_count() -> None:
    rounds = LimitRounds([terms(), None, terms(), terms()], 2.0, splittable=False)
    fraction = rounds.fraction([500.0, 9_999.0, None, 700.0])

    assert fraction is not None
    assert fraction.share == pytest.approx(0.6)
    assert LimitRounds([None, None], 2.0, splittable=False).limit is None
    assert LimitRounds([None], 2.0, splittable=False).fraction([1.0]) is None


def test_a_generator_that_waits_can_be_split_into_many_processes() -> None:
    waiting = [terms(generator_cpu_s=1e-4)]

    assert processes_for(waiting, 2.0, splittable=True) == 20
    idle = [terms(generator_cpu_s=1e-6)]
    assert processes_for(idle, 2.0, splittable=True) == MOST_PROCESSES
    # Each computes for 6 of 10 ms. Two cores have room for 3.3 such processes, so four fill them.
    some = [terms(generator_examples_per_s=100.0, generator_cpu_s=6e-3)]
    assert processes_for(some, 2.0, splittable=True) == 4
    assert processes_for([terms()], 2.0, splittable=True) == 2
    assert processes_for([terms()], 1.5, splittable=True) == 2
    assert processes_for(waiting, 2.0, splittable=False) == 1


def test_it_says_what_sets_it() -> None:
    found = LimitRounds([terms()], 2.0, splittable=False).limit

    assert found is not None
    assert found.in_words == "the rate of the bare generator in 1 process"
