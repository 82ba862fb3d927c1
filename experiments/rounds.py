"""Runs the confirmation: candidates, baselines and the limit, in rounds of random order."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter, defaultdict

from experiments.record import MeasuredLimit, MeasuredRound
from experiments.study import PipelineStudy
from experiments.terminal.progress import Steps
from experiments.verdict.leaving import beaten, enough
from experiments.verdict.measurements import (
    AUTOTUNE,
    LIMIT,
    PATIENCE,
    RoundMeasurement,
    is_baseline,
)
from experiments.verdict.same_data import same
from objectives.measurement import TrialFailure


class Confirmer:
    """Adds rounds to a study's latest confirmation.

    Attributes:
        problems: a line for each candidate that failed or read other data.
    """

    def __init__(self, study: PipelineStudy) -> None:
        self._study = study
        self._record = study.record
        self._failures: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self, steps: Steps, more: int | None = None) -> None:
        """Runs rounds until the verdict is precise or the time is spent, or `more` of them."""
        self._read_reference()
        done = len(self._record.rounds)
        while self._wanted(done, more):
            self._round(len(self._record.rounds))
            if all(is_baseline(name) for name in self._running()):
                return
            steps.advance(self._so_far())

    def _read_reference(self) -> None:
        """The plain chain's batches, once per confirmation, to compare the candidates' with."""
        if self._record.data is not None:
            return
        data = self._study.read_plain_data()
        self._record.data = data
        if not data.checked:
            self.problems.append(f"{self._study.info.name}: {data.why_not}")

    def _wanted(self, done: int, more: int | None) -> bool:
        record, settings = self._record, self._study.settings
        rounds = record.rounds
        if more is not None:
            return len(rounds) < done + more
        # A round in which AUTOTUNE failed says nothing about the ratio to it.
        with_autotune = [r for r in rounds if AUTOTUNE in r or AUTOTUNE not in self._running()]
        if len(with_autotune) < settings.rounds:
            return True
        next_s = record.rounds_s * (1.0 + 1.0 / len(rounds))
        return next_s <= settings.confirm_budget_s and not enough(
            self._running(), rounds, settings.rounds
        )

    def _round(self, number: int) -> None:
        """Measures every candidate once; each in a process of its own, as every trial is."""
        begin = time.monotonic()
        order = self._running()
        if self._failures[LIMIT] < PATIENCE:
            order.append(LIMIT)
        random.Random(f"{self._study.settings.seed}/{number}").shuffle(order)  # noqa: S311
        measured: dict[str, RoundMeasurement] = {}
        limit: MeasuredLimit | None = None
        for name in order:
            if name == LIMIT:
                limit = self._measure_limit(number)
                continue
            result = self._study.run_candidate(name, self._record.candidates[name], number)
            if isinstance(result, TrialFailure):
                self._failed(name, number, result)
            else:
                measured[name] = result
                self._check_data(name, result)
        seconds = time.monotonic() - begin
        self._record.add_round(MeasuredRound(measured=measured, limit=limit, seconds=seconds))

    def _measure_limit(self, number: int) -> MeasuredLimit | None:
        size = next(iter(self._record.candidates.values())).batch_size
        result = self._study.run_limit(size, number)
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

    def _check_data(self, name: str, measured: RoundMeasurement) -> None:
        data = self._record.data
        if data is None or not data.checked or name in self._record.other_data:
            return
        if not same(data.each_batch, measured.each_batch):
            self._record.mark_other_data(name)
            self.problems.append(
                f"{self._study.info.name}: {name} ({self._record.candidates[name]}) reads other "
                "data than the plain chain, so it is out; check what generate makes of "
                "shard_index and shard_count"
            )

    def _running(self) -> list[str]:
        """Candidates that have not failed too often, read other data, or been beaten."""
        # Who is out for other reasons beats nobody, however fast it was.
        usable = [
            name
            for name in self._record.candidates
            if self._failures[name] < PATIENCE and name not in self._record.other_data
        ]
        left = beaten(usable, self._record.rounds)
        return [name for name in usable if name not in left]

    def _so_far(self) -> str:
        """The medians until now, for the progress display."""
        rates: dict[str, list[float]] = defaultdict(list)
        for measured in self._record.rounds:
            for name, m in measured.items():
                rates[name.partition("-")[0]].append(m.examples_per_s)
        return ", ".join(f"{name} {statistics.median(found):,.0f}" for name, found in rates.items())
