"""What a study looks for: the number that it optimises, and the target that must be reached."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from prefetch_tuning.pipelines.config import PipelineConfig

Direction = Literal["maximize", "minimize"]
# Of two configurations whose values differ by a smaller share, neither is better.
EQUAL_SHARE = 0.05


@dataclass(frozen=True)
class Reading:
    """What one configuration reached, in a trial, over rounds, or by a prediction.

    Attributes:
        config: the configuration.
        examples_per_s: its rate.
        cpu_s_per_example: CPU seconds of the whole process tree per example.
        step_examples_per_s: the rate of the training step on ready batches; NaN if unknown. Only an
            objective with a target needs it.
        host_peak_mib: peak memory that the pipeline added; None for a prediction.
    """

    config: PipelineConfig
    examples_per_s: float
    cpu_s_per_example: float
    step_examples_per_s: float = math.nan
    host_peak_mib: float | None = None

    @property
    def utilisation(self) -> float:
        """The rate as a share of the step's, which is the share of time that the step is busy."""
        return self.examples_per_s / self.step_examples_per_s

    @property
    def processes(self) -> int:
        """Processes that make elements or batches beside the training process."""
        by_dataset = self.config.workers if self.config.use_multiprocessing else 0
        return self.config.generator_workers + by_dataset


class Objective(ABC):
    """Says what Optuna optimises.

    An objective without a target is judged by rate against AUTOTUNE. With a target, the cheapest
    configuration is recommended among those that reach it.

    Attributes:
        name: what users type after `--objective`.
        direction: whether higher or lower values are better.
        unit: the unit of its values.
        negligible: values closer than this count as equal, as do values within 5%.
        target: what `--target` sets; None if the objective has no target.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    unit: ClassVar[str]
    negligible: ClassVar[float] = 0.0
    target: float | None = None

    @abstractmethod
    def value(self, reading: Reading) -> float:
        """The number to optimise."""

    def shortfall(self, reading: Reading) -> float:  # noqa: ARG002 - for those with a target
        """How far a configuration misses the target: above 0 if it does. Optuna's constraint.

        Always 0 for an objective without a target.
        """
        return 0.0

    def is_better(self, value: float, other: float) -> bool:
        """Whether the first of two values is better by more than counts as equal."""
        more = value - other if self.direction == "maximize" else other - value
        return more > max(self.negligible, EQUAL_SHARE * abs(other))

    def level(self, value: float) -> float:
        """A whole number that equal values share, or nearly; lower is better."""
        size, linear = abs(value), self.negligible / EQUAL_SHARE
        if size <= linear:
            steps = size / self.negligible if linear else 0.0
        else:
            steps = math.log(size / max(linear, 1e-12)) / math.log1p(EQUAL_SHARE)
            steps += 1.0 / EQUAL_SHARE if linear else 0.0
        return math.floor(-steps if self.direction == "maximize" else steps)

    def shown(self, reading: Reading) -> str:
        """A reading in a few words."""
        value = self.value(reading)
        if self.target is None:
            return f"{value:,.0f} {self.unit}"
        return f"{reading.utilisation:.0%} busy with {value:,.3g} {self.unit}"

    def order(self, reading: Reading) -> tuple[float, ...]:
        """Sort key, best first.

        With a target, those that reach it come first: by value, then by processes, then by memory.
        The others follow by rate.
        """
        value = self.value(reading)
        if self.target is None:
            return (-value if self.direction == "maximize" else value,)
        if self.shortfall(reading) > 0.0:
            return 1, -reading.examples_per_s
        memory_mib = math.inf if reading.host_peak_mib is None else reading.host_peak_mib
        return 0, self.level(value), reading.processes, memory_mib
