"""Runs the confirmation: candidates, baselines and the limit, in rounds of random order."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import count
from statistics import median

from prefetch_tuning.experiments.study.data_check import DataCheck
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Steps
from prefetch_tuning.experiments.study.round_runs import RoundRuns
from prefetch_tuning.experiments.study.work import NodeLostError, Piece
from prefetch_tuning.experiments.verdict.leaving import beaten, enough, leader
from prefetch_tuning.experiments.verdict.measurements import (
    AUTOTUNE,
    BEST,
    LIMIT,
    PATIENCE,
    MeasuredLimit,
    MeasuredRound,
    RoundMeasurement,
    is_baseline,
)
from prefetch_tuning.experiments.verdict.target import (
    Shortfalls,
    leaves,
    settled,
    step_rates,
)
from prefetch_tuning.objectives.measurement import TrialFailure

# A GPU that is held back in more rounds than this is always held back, so waiting would not help.
THROTTLED_ROUNDS = 3
# On a cluster, one round in so many may run beside others once the least number is measured.
AT_ONCE = 4


class Confirmer:
    """Adds rounds to a study's latest confirmation.

    Attributes:
        problems: a line for each candidate that failed or read different data, and a line if
            rounds count although the GPU was held back in them.
    """

    def __init__(self, study: PipelineStudy, *, gives_up: bool = False) -> None:
        """With `gives_up`, it ends if the best candidate is excluded for its data."""
        self._study = study
        self._gives_up = gives_up
        self._runs = RoundRuns(study)
        self._kept = study.kept
        self._failures: Counter[str] = Counter()
        # The numbers of rounds: those that count, and those that are running, on a cluster several.
        self._counted = set(range(len(study.kept.rounds)))
        self._running_rounds: set[int] = set()
        self._more: int | None = None
        self._done = len(self._counted)
        self._ended = False
        self._throttled: list[MeasuredRound] = []
        self.problems: list[str] = []
        self._data = DataCheck(study, self.problems)

    def run(self, steps: Steps, more: int | None = None) -> None:
        """Runs `more` rounds, or rounds until the verdict is precise or the time is spent."""
        self._data.begin()
        self._steps, self._more = steps, more
        try:
            self._study.hosts.carry_out(self)
        finally:
            self._say_throttled()

    def next(self) -> Piece[tuple[int, MeasuredRound | None]] | None:
        """The next round; None if those that are measured or running are enough."""
        if self._ended or not self._wanted():
            return None
        # A round that doesn't count is measured again under its number.
        number = next(n for n in count() if n not in self._counted | self._running_rounds)
        self._running_rounds.add(number)
        return self._round(number)

    def ended(self, found: tuple[int, MeasuredRound | None]) -> None:
        """Stores a round, unless its node was lost or it is measured again."""
        number, measured = found
        self._running_rounds.remove(number)
        if measured is None:
            return
        kept = self._keep(measured, self._steps)
        if kept:
            self._counted.add(number)
        if self._nobody_left():
            self._ended = True
        elif kept:
            self._steps.advance(self._so_far())

    @property
    def gave_up(self) -> bool:
        """Whether others should be nominated: the best is excluded, or a better one is back."""
        return self._gives_up and (BEST in self._kept.other_data or self._data.readmits)

    def _wanted(self) -> bool:
        kept, settings = self._kept, self._study.settings
        if self.gave_up:
            return False
        rounds, begun = kept.rounds, len(self._running_rounds)
        if self._more is not None:
            return len(rounds) + begun < self._done + self._more
        # A round in which AUTOTUNE or the leader failed says nothing about the ratio of the two.
        running = self._running()
        needed = {AUTOTUNE, leader(self._fitting(running), rounds)} & set(running)
        if sum(needed <= set(measured) for measured in rounds) + begun < settings.rounds:
            return True
        if len(rounds) < settings.rounds or begun > len(rounds) // AT_ONCE:
            return False  # what is running may be enough
        next_s = kept.rounds_s * (1.0 + 1.0 / len(rounds))
        return next_s <= settings.confirm_budget_s and not self._enough(running)

    def _nobody_left(self) -> bool:
        """Whether more rounds could not change what is recommended."""
        running = self._running()
        if self._study.settings.goal.target is not None:
            return not running  # a baseline may be the cheapest that reaches the target
        return all(is_baseline(name) for name in running)

    def _enough(self, running: list[str]) -> bool:
        rounds, least = self._kept.rounds, self._study.settings.rounds
        fitting = {*self._fitting(running), AUTOTUNE}  # what doesn't fit decides nothing
        running = [name for name in running if name in fitting]
        if self._study.settings.goal.target is None:
            return enough(running, rounds, least)
        return len(rounds) >= least and settled(running, self._shortfalls())

    def _beaten(self, names: list[str]) -> set[str]:
        if self._study.settings.goal.target is None:
            return beaten(names, self._kept.rounds)
        return leaves(names, self._kept.rounds, self._shortfalls())

    def _shortfalls(self) -> Shortfalls:
        kept = self._kept
        steps = step_rates(kept.limits, kept.rounds, kept.confirmed_step_rate)
        return Shortfalls(self._study.settings.goal, kept.candidates, kept.rounds, steps)

    def _keep(self, measured: MeasuredRound, steps: Steps) -> bool:
        """Stores a round, unless the GPU was held back in it and measuring again may help."""
        if measured.throttled:
            self._throttled.append(measured)
            if len(self._throttled) <= THROTTLED_ROUNDS:
                self._runs.mark_throttled(measured)
                reasons = ", ".join(measured.throttled)
                steps.warn(
                    f"{self._study.info.name}: the GPU was held back ({reasons}) in round "
                    f"{len(self._kept.rounds)}, which is measured again"
                )
                return False
        self._kept.add_round(measured)
        return True

    def _say_throttled(self) -> None:
        """Adds a problem if rounds were kept although the GPU was held back in them."""
        kept = len(self._throttled) - THROTTLED_ROUNDS
        if kept <= 0:
            return
        reasons = sorted({event for found in self._throttled for event in found.throttled})
        self.problems.append(
            f"{self._study.info.name}: the GPU was held back ({', '.join(reasons)}) in "
            f"{len(self._throttled)} rounds: {THROTTLED_ROUNDS} were measured again, {kept} kept"
        )

    def _round(self, number: int) -> Piece[tuple[int, MeasuredRound | None]]:
        """Measures every candidate once, each in a separate process like every trial.

        Returns the round's number and the round; no round if its node was lost, because a round is
        measured whole on one node.
        """
        begin = time.monotonic()
        order = self._running()
        if self._failures[LIMIT] < PATIENCE:
            order.append(LIMIT)
        random.Random(f"{self._study.settings.seed}/{number}").shuffle(order)  # noqa: S311
        measured: dict[str, RoundMeasurement] = {}
        limit: MeasuredLimit | None = None
        try:
            for name in order:
                if name == LIMIT:
                    limit = yield from self._measure_limit(number)
                    continue
                config = self._kept.candidates[name]
                result = yield from self._runs.run_candidate(name, config, number)
                if isinstance(result, TrialFailure):
                    self._failed(name, number, result)
                else:
                    measured[name] = result
                    self._data.compare(name, result)
        except NodeLostError as error:
            self._steps.warn(f"{self._study.info.name}: round {number} is measured again: {error}")
            self._runs.mark_lost(MeasuredRound(measured=measured, limit=limit, seconds=0.0))
            return number, None
        seconds = time.monotonic() - begin
        return number, MeasuredRound(measured=measured, limit=limit, seconds=seconds)

    def _measure_limit(self, number: int) -> Piece[MeasuredLimit | None]:
        size = next(iter(self._kept.candidates.values())).batch_size
        result = yield from self._runs.run_limit(size, number)
        if isinstance(result, TrialFailure):
            self._failed(LIMIT, number, result)
            return None
        return result

    def _failed(self, name: str, number: int, failure: TrialFailure) -> None:
        self._failures[name] += 1
        self.problems.append(
            f"{self._study.info.name}: {name} failed in round {number}, {failure.kind}: "
            f"{failure.detail}"
        )

    def _running(self) -> list[str]:
        """Candidates that have not failed too often, read different data, or been beaten."""
        # A candidate that is excluded for other reasons beats nobody, however fast it was.
        usable = [
            name
            for name in self._kept.candidates
            if self._failures[name] < PATIENCE and name not in self._kept.other_data
        ]
        left = self._beaten(self._fitting(usable))
        return [name for name in usable if name not in left]

    def _fitting(self, names: Iterable[str]) -> list[str]:
        """Those within the memory limit so far. The others cannot be recommended."""
        limit = self._study.settings.memory_limit_mib
        if limit is None:
            return list(names)
        peaks = {
            name: [r[name].host_peak_mib for r in self._kept.rounds if name in r] for name in names
        }
        return [name for name, found in peaks.items() if not found or median(found) <= limit]

    def _so_far(self) -> str:
        """The medians so far, for the progress display."""
        rates: dict[str, list[float]] = defaultdict(list)
        for measured in self._kept.rounds:
            for name, m in measured.items():
                rates[name.partition("-")[0]].append(m.examples_per_s)
        return ", ".join(f"{name} {median(found):,.0f}" for name, found in rates.items())
