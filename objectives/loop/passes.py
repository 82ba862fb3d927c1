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
        whole: whether it came to its end, and it is clear where that was.
        cpu_s: CPU seconds that it took.
    """

    digests: list[str]
    examples: int
    seconds: float
    whole: bool
    cpu_s: float = 0.0

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

    def mean_cpu_s(self, later: float, passes: float | None) -> float:
        """Mean CPU seconds per example of such a training; `later` is that of its other passes."""
        if passes is None or not self.whole:
            return later
        # What the first pass makes is also trained on, so it costs that in addition.
        return later + self.cpu_s / self.examples / max(passes, 1.0)


# Of a chain without a cache.
NO_PASS = FirstPass(digests=[], examples=0, seconds=0.0, whole=False)
