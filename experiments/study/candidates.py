"""Chooses who is confirmed: the search's best configurations and the baselines."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce

from prefetch_tuning.experiments.search.prediction import RESERVE
from prefetch_tuning.experiments.storage.confirmation import Candidates
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.verdict.measurements import (
    AS_WRITTEN,
    AUTOTUNE,
    BASIC,
    NO_PREFETCH,
    ORDERED,
    STRUCTURE_AUTOTUNE,
    TUNED,
)
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.pipelines.config import PipelineConfig

NOMINEES = 3


def _resized(config: PipelineConfig, size: int) -> PipelineConfig:
    return config.model_copy(update={"batch_size": size})


def candidates_of(
    complete: Sequence[MeasuredConfig],
    goal: Objective,
    step_rate: Callable[[int], float],
    own: Mapping[str, bool | int] | None = None,
    *,
    resized: Callable[[PipelineConfig, int], PipelineConfig] = _resized,
    written: bool = False,
) -> Candidates:
    """The best distinct configurations at the best batch size, and the baselines at this size.

    With a target, one of them exceeds it by a reserve: the cheapest trials are those that barely
    reach the target, and may miss it in the rounds.

    Rates are comparable only at equal batch size. Of two batch sizes, the better one has the higher
    mean over its best three configurations, or as many as both have, because a single trial is
    often lucky. If the best one has fewer than three, settings that did well at another batch size
    are taken over.

    If any of these configurations changes the structure of the chain, the best plain chain takes
    the place of the third. If the best one changes it, AUTOTUNE on its structure is added. If its
    elements may come in another order, so is the same configuration with their order kept.

    Args:
        complete: the complete trials of the search.
        goal: the study's objective.
        step_rate: gives the rate of the training step alone at a batch size.
        own: settings that AUTOTUNE keeps, see `BatchesPipeline`.
        resized: a configuration at another batch size.
        written: whether a script wrote the chain, so that this is a candidate as well.
    """
    readings = _readings(complete, step_rate)
    if not readings:
        return {}
    ranked = sorted(readings, key=lambda config: goal.order(readings[config]))
    by_size: dict[int, list[float]] = defaultdict(list)
    for config in ranked:
        by_size[config.batch_size].append(readings[config].examples_per_s)
    size = reduce(lambda a, b: b if _is_better(by_size[b], by_size[a]) else a, by_size)
    own_first = sorted(ranked, key=lambda config: config.batch_size != size)
    distinct = list(dict.fromkeys(resized(config, size) for config in own_first))
    if goal.target is not None:
        distinct = _with_reserve(distinct, readings, goal)
    nominees = distinct[:NOMINEES]
    found: Candidates = {}
    if any(config.structure for config in distinct):
        # The best plain chain may have been measured at another batch size only.
        plain = next((resized(config, size) for config in ranked if not config.structure), None)
        if plain is not None:
            nominees = [config for config in nominees if config != plain][: NOMINEES - 1]
            found[BASIC] = plain
        if nominees and nominees[0].structure:
            found[STRUCTURE_AUTOTUNE] = nominees[0].handed_to_autotune()
        if nominees and nominees[0].reorder:
            ordered = nominees[0].model_copy(update={"reorder": False})
            nominees = [config for config in nominees if config != ordered]
            found[ORDERED] = ordered
    return {
        **{f"{TUNED}{rank}": config for rank, config in enumerate(nominees, start=1)},
        **found,
        **({AS_WRITTEN: PipelineConfig.written(size)} if written else {}),
        AUTOTUNE: PipelineConfig.autotune(size, **(own or {})),
        NO_PREFETCH: PipelineConfig.no_prefetch(size),
    }


def usable(
    complete: Sequence[MeasuredConfig], excluded: Sequence[PipelineConfig]
) -> list[MeasuredConfig]:
    """The trials that may still be nominated.

    Configurations that change the same structural settings as an excluded one are left out, because
    they probably also read other data.
    """
    changes = [set(config.structure) for config in excluded if config.structure]
    return [
        m for m in complete if m.config not in excluded and set(m.config.structure) not in changes
    ]


def _readings(
    complete: Sequence[MeasuredConfig], step_rate: Callable[[int], float]
) -> dict[PipelineConfig, Reading]:
    """The median reading of each configuration."""
    trials: dict[PipelineConfig, list[MeasuredConfig]] = defaultdict(list)
    for measured in complete:
        trials[measured.config].append(measured)
    return {
        config: Reading(
            config,
            statistics.median(m.examples_per_s for m in found),
            statistics.median(m.cpu_s_per_example for m in found),
            step_rate(config.batch_size),
            statistics.median(m.host_peak_mib for m in found),
        )
        for config, found in trials.items()
    }


def _with_reserve(
    ranked: Sequence[PipelineConfig], readings: Mapping[PipelineConfig, Reading], goal: Objective
) -> list[PipelineConfig]:
    """The same order, with the best one that exceeds the target by a reserve in second place."""

    def is_safe(config: PipelineConfig) -> bool:
        less = replace(
            readings[config], examples_per_s=(1.0 - RESERVE) * readings[config].examples_per_s
        )
        return goal.shortfall(less) <= 0.0

    if any(is_safe(config) for config in ranked[: NOMINEES - 1]):
        return list(ranked)
    safe = next((config for config in ranked if is_safe(config)), None)
    if safe is None:
        return list(ranked)
    others = [config for config in ranked if config != safe]
    return [*others[:1], safe, *others[1:]]


def _is_better(rates: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the best of these rates are higher on average; both have them best first."""
    count = min(NOMINEES, len(rates), len(others))
    return statistics.fmean(rates[:count]) > statistics.fmean(others[:count])
