"""How fast each node is: by one reference configuration, which it measures beside its pieces. Pure.

Hosts of a cluster differ, and each drifts. What is compared is therefore the ratio of a rate to the
rate of the same node's reference. It is stored as a rate again: times the reference's rate on the
study's first node.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prefetch_tuning.experiments.study.work import Call
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement
from prefetch_tuning.objectives.spec import TrialSpec

# References that a node measures before its first piece, and that its speed is the median of.
FIRST = 3
# It measures another one before a piece, if it has made so many calls since.
EVERY = 4
# A node on which the reference fails so often is left out.
PATIENCE = 2


class Speeds:
    """The speeds of the nodes relative to the first one's, which is 1 at its beginning.

    Attributes:
        failure: why the reference failed the last time.
    """

    def __init__(self, spec: TrialSpec, base: float | None, keep: Callable[[float], None]) -> None:
        """Begins without a reading.

        Args:
            spec: measures the reference.
            base: the reference's rate on the study's first node, if an earlier run measured it.
            keep: stores that rate.
        """
        self.reference = Call.measure(spec)
        self._base, self._keep = base, keep
        self._rates: dict[str, list[float]] = defaultdict(list)
        self._since: dict[str, int] = defaultdict(int)
        self._failed: dict[str, int] = defaultdict(int)
        self._measuring: set[str] = set()
        self.failure = ""

    def is_usable(self, node: str) -> bool:
        """Whether the reference works on a node."""
        return self._failed[node] < PATIENCE

    def is_measuring(self, node: str) -> bool:
        """Whether a node is measuring the reference."""
        return node in self._measuring

    def begin_reference(self, node: str) -> bool:
        """Whether a node has to measure the reference now; it then counts as measuring it."""
        if len(self._rates[node]) >= FIRST and self._since[node] < EVERY:
            return False
        self._measuring.add(node)
        return True

    def end_reference(self, node: str, found: Any) -> None:
        """Takes what the reference's measurement gave."""
        self._measuring.remove(node)
        if not isinstance(found, Measurement):
            self._failed[node] += 1
            self.failure = f"{found.kind}: {found.detail}"
            return
        self._failed[node] = self._since[node] = 0
        rates = self._rates[node]
        rates.append(found.examples_per_s)
        if self._base is None and len(rates) == FIRST:
            self._base = statistics.median(rates)
            self._keep(self._base)

    def of(self, node: str) -> float:
        """A node's rate of the reference over the first node's."""
        rates = self._rates[node][-FIRST:]
        return statistics.median(rates) / self._base if rates and self._base else 1.0

    def on(self, node: str, call: Call) -> Call:
        """A call as this node has to make it: a trial is pruned against a rate of this node."""
        self._since[node] += 1
        spec = call.arguments[0]
        if not isinstance(spec, TrialSpec) or spec.best_examples_per_s is None:
            return call
        own = {"best_examples_per_s": spec.best_examples_per_s * self.of(node)}
        return replace(call, arguments=(spec.model_copy(update=own), *call.arguments[1:]))

    def relative(self, node: str, answer: Any) -> Any:
        """An answer with rates as on the first node; a failure stays as it is."""
        if isinstance(answer, Measurement | LimitTerms):
            return answer.on_node(node, self.of(node))
        return answer
