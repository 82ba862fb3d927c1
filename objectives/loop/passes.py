"""The first pass over data that is kept in memory from then on, and what a training pays for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FirstPass:
    """A pass that filled a cache, without training steps.

    Attributes:
        digests: short digests of its first batches.
        examples: in the whole pass.
        seconds: it took.
        whole: whether it came to its end.
    """

    digests: list[str]
    examples: int
    seconds: float
    whole: bool

    def mean_rate(self, later: float, passes: float | None) -> float:
        """Mean examples/s of a training of so many passes, of which this is the first.

        Args:
            later: examples/s of the training's other passes.
            passes: at least one is counted; None if unknown, for the rate of the other passes.
        """
        if passes is None or not self.whole:
            return later
        # The step runs beside the pass, so it is the slower one of the two that counts.
        first, passes = min(self.examples / self.seconds, later), max(passes, 1.0)
        return passes / (1.0 / first + (passes - 1.0) / later)
