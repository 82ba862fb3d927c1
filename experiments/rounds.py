"""Runs the confirmation: candidates and baselines, round after round, in random order."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from experiments.record import Candidates
from experiments.results import MeasuredConfig
from experiments.study import PipelineStudy
from experiments.terminal.progress import Steps
from experiments.verdict.confirmation import (
    AUTOTUNE,
    BASIC,
    NO_PREFETCH,
    RoundMeasurement,
    is_baseline,
    precise,
)
from objectives.measurement import TrialFailure
from pipelines.config import PipelineConfig

NOMINEES = 3
# A candidate that fails this often is left out of the rounds that follow.
PATIENCE = 2


def candidates_of(
    complete: Sequence[MeasuredConfig], own: Mapping[str, bool | int] | None = None
) -> Candidates:
    """The best three distinct configurations at the best batch size, and the baselines at it.

    Rates compare at equal batch size only. Which one is best is read off the mean of its best
    three, since a single trial is often just lucky; where it has fewer than three, settings that
    did well at another batch size are taken over. If the structure of the chain was searched, the
    best without a change of it takes the place of the third.

    Args:
        complete: what the search measured.
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
    moved = [config.model_copy(update={"batch_size": size}) for config in own_first]
    distinct = list(dict.fromkeys(moved))
    nominees = distinct[:NOMINEES]
    basic: dict[str, PipelineConfig] = {}
    plain = next((config for config in distinct if not config.structure), None)
    if plain is not None and any(config.structure for config in distinct):
        nominees = [config for config in nominees if config != plain][: NOMINEES - 1]
        basic = {BASIC: plain}
    return {
        **{f"tuned-{rank}": config for rank, config in enumerate(nominees, start=1)},
        **basic,
        AUTOTUNE: PipelineConfig.autotune(size, **(own or {})),
        NO_PREFETCH: PipelineConfig.no_prefetch(size),
    }


class Confirmer:
    """Adds rounds to a study's latest confirmation.

    Attributes:
        problems: a line for each candidate that failed.
    """

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study
        self._record = study.record
        self._failures: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, steps: Steps, more: int | None = None) -> None:
        """Runs rounds until the verdict is precise or the time is spent, or `more` of them."""
        done = len(self._record.rounds)
        while self._wanted(done, more):
            self._round(len(self._record.rounds))
            if all(is_baseline(name) for name in self._running()):
                return
            steps.advance(self._so_far())

    def _wanted(self, done: int, more: int | None) -> bool:
        record, settings = self._record, self._study.settings
        rounds = record.rounds
        if more is not None:
            return len(rounds) < done + more
        if len(rounds) < settings.rounds:
            return True
        next_s = record.rounds_s * (1.0 + 1.0 / len(rounds))
        return next_s <= settings.confirm_budget_s and not precise(record.candidates, rounds)

    def _round(self, number: int) -> None:
        """Measures every candidate once; each in a process of its own, as every trial is."""
        begin = time.monotonic()
        order = self._running()
        random.Random(f"{self._study.settings.seed}/{number}").shuffle(order)  # noqa: S311
        measured: dict[str, RoundMeasurement] = {}
        for name in order:
            config = self._record.candidates[name]
            result = self._study.run_candidate(name, config, number, ceilings=True)
            if isinstance(result, TrialFailure):
                self._failures[name] += 1
                self.problems.append(
                    f"{self._study.info.name}: {name} failed in round {number}, {result.kind}: "
                    f"{result.detail}"
                )
            else:
                measured[name] = result
        self._record.add_round(measured, time.monotonic() - begin)

    def _running(self) -> list[str]:
        return [name for name in self._record.candidates if self._failures[name] < PATIENCE]

    def _so_far(self) -> str:
        """The medians until now, for the progress display."""
        rates: dict[str, list[float]] = defaultdict(list)
        for measured in self._record.rounds:
            for name, m in measured.items():
                rates[name.partition("-")[0]].append(m.examples_per_s)
        return ", ".join(f"{name} {statistics.median(found):,.0f}" for name, found in rates.items())
