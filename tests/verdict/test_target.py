"""The cheapest candidate that reaches a target, from made-up rounds, so the truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefetch_tuning.experiments.verdict.confirmation import Confirmation, conclude
from prefetch_tuning.experiments.verdict.measurements import Round
from prefetch_tuning.experiments.verdict.target import Shortfalls, leaves, settled
from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.objectives.named import objective
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.verdict.test_confirmation import measured

STEP = 1_000.0
GOAL = objective("utilisation", 0.9)
PLAIN = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1)
CONFIGS = {
    "tuned-1": PLAIN.model_copy(update={"generator_workers": 2}),
    "tuned-2": PLAIN.model_copy(update={"generator_workers": 4}),
    "tuned-3": PLAIN.model_copy(update={"generator_workers": 1}),
    "autotune": PipelineConfig.autotune(8),
    "no_prefetch": PipelineConfig.no_prefetch(8),
}
TERMS = LimitTerms(
    step_examples_per_s=STEP,
    step_cores=0.0,
    generator_examples_per_s=500.0,
    generator_cpu_s=1e-4,
    map_cpu_s=0.0,
    step_cpu_s=0.0,
    measured_s=1.0,
)
# What chance does to the rates and to the CPU times in each round.
NOISE = (1.0, 0.99, 1.01, 0.98, 1.0, 1.02, 0.99, 1.01, 1.0)


def rounds(
    busy: Mapping[str, float],
    cpu_us: Mapping[str, float] | None = None,
    peaks: Mapping[str, float] | None = None,
    count: int = 9,
) -> list[Round]:
    """Rounds in which each candidate keeps the step busy for this share of the time."""
    cpu_us, peaks = cpu_us or {}, peaks or {}
    return [
        {
            name: measured(share * STEP * noise, peaks.get(name, 50.0)).model_copy(
                update={"cpu_s_per_example": cpu_us.get(name, 1_000.0) / 1e6 * noise}
            )
            for name, share in busy.items()
        }
        for noise in NOISE[:count]
    ]


def decide(found: Sequence[Round], **options: Any) -> Confirmation:
    given = {"cores": 2, "tolerance": 0.02, "goal": GOAL, "limits": [TERMS] * len(found)}
    return conclude(CONFIGS, found, **{**given, **options})


def chosen(found: Confirmation) -> str:
    assert found.recommended is not None
    return found.recommended.candidate


def test_of_equally_cheap_ones_that_reach_it_the_one_with_fewest_processes_is_recommended() -> None:
    busy = {"tuned-1": 0.96, "tuned-2": 0.99, "tuned-3": 0.6, "autotune": 0.3}
    found = decide(rounds(busy, {"tuned-1": 1_030.0, "tuned-3": 500.0}))

    assert chosen(found) == "tuned-1"
    assert {c.candidate for c in found.candidates if c.reaches} == {"tuned-1", "tuned-2"}


def test_fewer_cores_count_more_than_fewer_processes() -> None:
    busy = {"tuned-1": 0.96, "tuned-2": 0.99}

    assert chosen(decide(rounds(busy, {"tuned-1": 1_200.0}))) == "tuned-2"
    # A tenth of hardly any CPU time isn't worth two processes.
    assert chosen(decide(rounds(busy, {"tuned-1": 12.0, "tuned-2": 10.0}))) == "tuned-1"


def test_costs_that_differ_are_not_equal_because_the_rounds_are_noisy() -> None:
    """tuned-3 has fewer processes, and its cost is 30% higher, though not proven so."""
    wild = (1.3, 0.7, 1.4, 0.8, 1.0, 1.2, 0.75, 1.35, 0.9)
    found = [
        {
            name: measured(0.97 * STEP, 50.0).model_copy(update={"cpu_s_per_example": each})
            for name, each in {"tuned-1": 1e-3 * noise, "tuned-3": 1.3e-3}.items()
        }
        for noise in wild
    ]

    assert chosen(decide(found)) == "tuned-1"


def test_one_failure_of_autotune_in_many_rounds_does_not_exclude_it() -> None:
    found = rounds({"tuned-1": 0.96, "autotune": 0.97})
    more = rounds({"tuned-1": 0.96, "autotune": 0.97})
    once = [{"tuned-1": found[0]["tuned-1"]}]

    assert chosen(decide([*once, *found, *more[:4]])) == "autotune"  # it has no process


def test_whose_interval_is_not_wholly_at_the_target_does_not_reach_it() -> None:
    busy = {"tuned-1": 0.9, "tuned-2": 0.95}
    found = decide(rounds(busy, {"tuned-1": 500.0}))

    assert found.find("tuned-1") is not None
    assert chosen(found) == "tuned-2"


def test_memory_decides_between_equal_costs_and_processes() -> None:
    configs = {**CONFIGS, "tuned-2": CONFIGS["tuned-1"].model_copy(update={"prefetch_buffer": 1})}
    found = rounds({"tuned-1": 0.97, "tuned-2": 0.95}, peaks={"tuned-1": 90.0, "tuned-2": 40.0})

    given = {"cores": 2, "tolerance": 0.02, "goal": GOAL, "limits": [TERMS] * 9}
    assert chosen(conclude(configs, found, **given)) == "tuned-2"  # type: ignore[arg-type]


def test_autotune_is_recommended_if_nothing_that_reaches_it_is_cheaper() -> None:
    busy = {"tuned-1": 0.96, "tuned-2": 0.99, "autotune": 0.97}

    assert chosen(decide(rounds(busy))) == "autotune"  # it has no process
    assert chosen(decide(rounds(busy, {"autotune": 2_000.0}))) == "tuned-1"


def test_out_of_reach_the_nearest_one_is_recommended_and_the_reason_says_so() -> None:
    found = decide(rounds({"tuned-1": 0.5, "tuned-2": 0.7, "autotune": 0.4}))

    assert chosen(found) == "tuned-2"
    assert found.recommended is not None
    assert "no candidate reaches the target" in found.recommended.reason


def test_what_is_over_the_memory_limit_or_reads_other_data_is_not_recommended() -> None:
    made = rounds({"tuned-1": 0.96, "tuned-2": 0.99}, peaks={"tuned-1": 80.0})

    assert chosen(decide(made, memory_limit_mib=60.0)) == "tuned-2"
    assert chosen(decide(made, other_data=["tuned-1"])) == "tuned-2"


def shortfalls(found: Sequence[Round]) -> Shortfalls:
    return Shortfalls(GOAL, CONFIGS, found, [STEP] * len(found))


def test_who_is_far_from_the_target_or_dearer_leaves_once_another_reaches_it() -> None:
    busy = {"tuned-1": 0.97, "tuned-2": 0.99, "tuned-3": 0.6, "autotune": 0.3}
    cpu_us = {"tuned-2": 1_500.0}

    def left(count: int) -> set[str]:
        found = rounds(busy, cpu_us, count=count)
        return leaves(busy, found, shortfalls(found))

    assert left(2) == set()
    assert left(3) == {"tuned-3"}
    assert left(4) == {"tuned-3", "tuned-2"}


def test_who_is_dearer_stays_until_the_cheaper_one_is_proven_to_reach_the_target() -> None:
    """Otherwise nobody is left if the cheaper one misses it in the end."""
    found = rounds({"tuned-1": 0.903, "tuned-2": 0.99}, {"tuned-1": 500.0}, count=6)

    assert not shortfalls(found).reaches("tuned-1")
    assert leaves(["tuned-1", "tuned-2"], found, shortfalls(found)) == set()


def test_while_none_reaches_the_target_the_fastest_stay() -> None:
    busy = {"tuned-1": 0.3, "tuned-2": 0.8, "autotune": 0.7}
    found = rounds(busy, count=3)

    assert leaves(busy, found, shortfalls(found)) == {"tuned-1"}


def test_rounds_go_on_while_it_is_open_who_reaches_the_target() -> None:
    def known(share: float, host: float = 1.0) -> bool:
        found = rounds({"tuned-1": share})
        noisy = [
            {"tuned-1": measured(STEP * share * (1.0 + host * (noise - 1.0)))} for noise in NOISE
        ]
        return settled(["tuned-1"], shortfalls(found if host == 1.0 else noisy))

    assert known(0.97)
    assert known(0.6)
    assert known(0.9)  # within two points
    assert not known(0.9, host=3.0)
