"""Chooses who is confirmed: the search's best configurations and the baselines."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from prefetch_tuning.experiments.storage.attributes import Candidates
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.verdict.measurements import (
    AUTOTUNE,
    BASIC,
    NO_PREFETCH,
    STRUCTURE_AUTOTUNE,
    TUNED,
)
from prefetch_tuning.pipelines.config import PipelineConfig

NOMINEES = 3


def candidates_of(
    complete: Sequence[MeasuredConfig], own: Mapping[str, bool | int] | None = None
) -> Candidates:
    """The best distinct configurations at the best batch size, and the baselines at this size.

    Rates are comparable only at equal batch size. The best batch size is the one with the highest
    mean over its best three configurations, because a single trial is often lucky. If it has fewer
    than three, settings that did well at another batch size are taken over.

    If any of these configurations changes the structure of the chain, the best plain chain takes
    the place of the third. If the best one changes it, AUTOTUNE on its structure is added.

    Args:
        complete: the complete trials of the search.
        own: settings that AUTOTUNE keeps, see `BatchesPipeline`.
    """
    rates: dict[PipelineConfig, list[float]] = defaultdict(list)
    for measured in complete:
        rates[measured.config].append(measured.examples_per_s)
    if not rates:
        return {}
    ranked = sorted(rates, key=lambda config: -statistics.median(rates[config]))
    by_size: dict[int, list[float]] = defaultdict(list)
    for config in ranked:
        by_size[config.batch_size].append(statistics.median(rates[config]))
    size = max(by_size, key=lambda s: statistics.fmean(by_size[s][:NOMINEES]))
    own_first = sorted(ranked, key=lambda config: config.batch_size != size)
    distinct = list(dict.fromkeys(_at(config, size) for config in own_first))
    nominees = distinct[:NOMINEES]
    found: Candidates = {}
    if any(config.structure for config in distinct):
        # The best plain chain may have been measured at another batch size only.
        plain = next((_at(config, size) for config in ranked if not config.structure), None)
        if plain is not None:
            nominees = [config for config in nominees if config != plain][: NOMINEES - 1]
            found[BASIC] = plain
        if nominees and nominees[0].structure:
            found[STRUCTURE_AUTOTUNE] = nominees[0].handed_to_autotune()
    return {
        **{f"{TUNED}{rank}": config for rank, config in enumerate(nominees, start=1)},
        **found,
        AUTOTUNE: PipelineConfig.autotune(size, **(own or {})),
        NO_PREFETCH: PipelineConfig.no_prefetch(size),
    }


def _at(config: PipelineConfig, size: int) -> PipelineConfig:
    return config.model_copy(update={"batch_size": size})
