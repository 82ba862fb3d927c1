"""The objective `utilisation`: keep the accelerator busy, with as few cores as possible.

As in MLPerf Storage, an accelerator is busy for the time that its steps take alone, and a share of
90% is the bar.
"""

from __future__ import annotations

from prefetch_tuning.objectives.objective import Objective, Reading


class Utilisation(Objective):
    """The cores that feeding the accelerator takes, at a target utilisation or above."""

    name = "utilisation"
    direction = "minimize"
    unit = "cores"
    # A twentieth of a core isn't worth a process.
    negligible = 0.05

    def __init__(self, target: float) -> None:
        """`target` is the least share of time in which the accelerator must be busy."""
        self.target: float = target

    def value(self, reading: Reading) -> float:
        """The cores at which the step would never wait: CPU time per example at the step's rate.

        At its own rate, a configuration would look cheaper the more often the step waits for it.
        """
        return reading.cpu_s_per_example * reading.step_examples_per_s

    def shortfall(self, reading: Reading) -> float:
        return self.target - reading.utilisation
