"""The objective `throughput`: as many examples per second as possible."""

from __future__ import annotations

from prefetch_tuning.objectives.objective import Objective, Reading


class Throughput(Objective):
    """The rate of training."""

    name = "throughput"
    direction = "maximize"
    unit = "examples/s"

    def value(self, reading: Reading) -> float:
        return reading.examples_per_s
