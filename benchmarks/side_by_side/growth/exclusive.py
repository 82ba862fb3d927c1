"""Sums the time that calls take, each without what it spends in another counted call."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from prefetch_tuning.objectives.loop.steady_state import Clock


class Exclusive:
    """Wraps methods of objects; `seconds` has the total of each name."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        # The seconds that the calls inside each running one took, outermost first.
        self._inside = [0.0]

    def count(self, name: str, owner: Any, *methods: str) -> None:
        """Counts calls of these methods of an object under a name."""
        for method in methods:
            setattr(owner, method, self._counted(name, getattr(owner, method)))

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            begin = self._clock()
            self._inside.append(0.0)
            try:
                return call(*args, **options)
            finally:
                seconds = self._clock() - begin
                self.seconds[name] += seconds - self._inside.pop()
                self._inside[-1] += seconds

        return counted
