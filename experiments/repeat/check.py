"""Measures a configuration against a reference in rounds, until a test of equivalence decides."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable

from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.host.noise import host_warnings, steal_warning, stolen_s
from prefetch_tuning.experiments.repeat.checked import (
    DATA_ROUNDS,
    SIDES,
    Check,
    CheckRequest,
    Outcome,
    Side,
)
from prefetch_tuning.experiments.verdict.equivalence import LOOKS, Equivalence, is_look, judge
from prefetch_tuning.experiments.verdict.measurements import PATIENCE, same_batches
from prefetch_tuning.objectives.measurement import Digest, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner


class Checker:
    """Measures rounds one after another; each side in a fresh process, in a balanced random order.

    Args:
        name: the pipeline's name.
        show: is called after each round with what the rounds so far say.
        warn: is called with a line for each failure.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        request: CheckRequest,
        runner: TrialRunner,
        show: Callable[[str], None],
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._request = request
        self._runner = runner
        self._show = show
        self._warn = warn
        self._clock = clock
        self._rates: dict[Side, list[float]] = {side: [] for side in SIDES}
        self._digests: dict[Side, list[Digest]] = {side: [] for side in SIDES}
        self._failures: dict[Side, list[str]] = {side: [] for side in SIDES}
        self._throttled: set[str] = set()

    def run(self) -> Check:
        """Runs rounds until the test decides, the time is over, or the configuration fails.

        Raises:
            UsageError: the pipeline or a setting is wrong, the reference fails, or the two read
                different data.
        """
        began, stolen = self._clock(), stolen_s()
        problems = host_warnings()
        outcome: Outcome = "undecided"
        number = 0
        while outcome == "undecided" and self._another(number, self._clock() - began):
            self._round(number)
            number += 1
            self._check_data()
            if len(self._failures["checked"]) >= PATIENCE:
                outcome = "failed"
            elif is_look(len(self._log_ratios)):
                outcome = self._judged()
            self._show(self._so_far())
        if outcome == "undecided":
            outcome = self._judged()  # the time is over, so the last look comes early
        wall_s = self._clock() - began
        problems += filter(None, [steal_warning(stolen, stolen_s(), max(wall_s, 1.0))])
        if self._throttled:
            problems.append(f"the GPU was held back: {', '.join(sorted(self._throttled))}")
        return Check(
            pipeline=self._name,
            request=self._request,
            outcome=outcome,
            found=self._found(),
            examples_per_s={
                side: statistics.median(rates) for side, rates in self._rates.items() if rates
            },
            rates=self._rates,
            data_checked=self._keeps_order and self._repeats_itself(),
            failures=self._failures["checked"] + self._failures["reference"],
            problems=problems,
            wall_s=wall_s,
        )

    def _another(self, done: int, spent_s: float) -> bool:
        if done == 0:
            return True
        if len(self._log_ratios) >= LOOKS[-1]:
            return False
        return spent_s * (1.0 + 1.0 / done) <= self._request.time_s

    def _round(self, number: int) -> None:
        # Of two rounds, each side runs first in one, so running second favours neither. Chance
        # decides in which one, so neither does a host that is busy every other minute.
        chance = random.Random(f"{self._request.seed}/{number // 2}")  # noqa: S311
        order = chance.sample(SIDES, 2)[:: -1 if number % 2 else 1]
        measured: dict[Side, Measurement] = {}
        for side in order:
            result = self._runner.measure(self._request.spec(side, number))
            if isinstance(result, TrialFailure):
                self._failed(side, number, result)
            else:
                measured[side] = result
        for side, result in measured.items():
            self._digests[side].append(result.digest)
            self._throttled.update(result.gpu.throttled if result.gpu else [])
            if len(measured) == len(SIDES):
                self._rates[side].append(result.examples_per_s)

    def _failed(self, side: Side, number: int, failure: TrialFailure) -> None:
        said = self._request.source if side == "checked" else self._request.against
        line = f"{said} failed in round {number + 1}, {failure.kind}: {failure.detail}"
        if failure.kind == "usage":  # every round would fail the same way
            raise UsageError(f"{self._name}: {said} cannot be measured: {failure.detail}")
        self._failures[side].append(line)
        if side == "reference" and len(self._failures[side]) >= PATIENCE:
            raise StudyError(f"{self._name}: there is nothing to compare with: {line}")
        self._warn(f"{self._name}: {line}")

    def _check_data(self) -> None:
        """Raises UsageError if the two read different data although the reference repeats its own.

        A faster configuration that reads other data isn't faster at the same job.
        """
        if not self._repeats_itself():
            return
        first = max(self._digests["reference"], key=lambda digest: len(digest.each_batch))
        if all(_same(first, digest) for digest in self._digests["checked"]):
            return
        against, source = self._request.against, self._request.source
        raise UsageError(
            f"{self._name}: {source} reads different data from {against}, so their rates can't be "
            "compared; check shard_index and shard_count, or whether the data depends on the order "
            "in which threads run"
        )

    def _repeats_itself(self) -> bool:
        own = self._digests["reference"]
        return len(own) >= DATA_ROUNDS and all(_same(own[0], digest) for digest in own)

    @property
    def _keeps_order(self) -> bool:
        return not any(config.reorder for config in self._request.configs.values())

    @property
    def _log_ratios(self) -> list[float]:
        pairs = zip(self._rates["checked"], self._rates["reference"], strict=True)
        return [math.log(checked / reference) for checked, reference in pairs]

    def _found(self) -> Equivalence | None:
        values = self._log_ratios
        return judge(values, self._request.margin) if values else None

    def _judged(self) -> Outcome:
        found = self._found()
        return found.decision if found else "undecided"

    def _so_far(self) -> str:
        found = self._found()
        return f"ratio {found.ratio:.3f}" if found else "no result yet"


def _same(first: Digest, second: Digest) -> bool:
    return first.agrees_with(second) and same_batches(first.each_batch, second.each_batch)
