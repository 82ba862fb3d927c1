"""The configurations that are searched for a pipeline."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from prefetch_tuning.experiments.search.pauses import near
from prefetch_tuning.pipelines.config import STRUCTURE, PipelineConfig

Value = int | str | bool


@dataclass(frozen=True)
class Axis:
    """A setting that is searched: a range on a log scale, or a few choices.

    Prefetch and map parallelism are searched on a log scale: from 1 to 2 is a change of kind, from
    33 to 34 is no change at all.

    Attributes:
        name: the name of the setting.
        low, high: the bounds of a range; the search takes any whole number in it.
        choices: the values of an axis without a range.
        points: the values that the prediction tries.
    """

    name: str
    low: int = 1
    high: int = 1
    choices: tuple[Value, ...] = ()
    points: tuple[Value, ...] = ()

    @classmethod
    def range(cls, name: str, high: int, low: int = 1, step: int = 2) -> Axis:
        """Makes a range; the prediction tries `low` times the powers of `step`, up to `high`."""
        points, point = [], low
        while point <= high:
            points.append(point)
            point *= step
        return cls(name, low=low, high=high, points=tuple(points))

    @classmethod
    def of(cls, name: str, *choices: Value) -> Axis:
        """Makes an axis of a few choices; the prediction tries all of them."""
        return cls(name, choices=choices, points=choices)

    def suggest(self, trial: optuna.Trial) -> Value:
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)  # type: ignore[return-value]
        return trial.suggest_int(self.name, self.low, self.high, log=True)

    @property
    def distribution(self) -> BaseDistribution:
        """The axis as Optuna describes it."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        return IntDistribution(self.low, self.high, log=True)

    def random_value(self, rng: random.Random) -> Value:
        """A random value; on a range, every doubling is as likely."""
        if self.choices:
            return rng.choice(self.choices)
        exponent = rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5))
        return min(max(round(math.exp(exponent)), self.low), self.high)

    def beside(self, value: Value) -> list[Value]:
        """The values next to this one: half and double, and a step of half of that."""
        if self.choices:
            return [choice for choice in self.choices if choice != value]
        steps = (0.5, math.sqrt(0.5), math.sqrt(2.0), 2.0)
        found = {min(max(round(int(value) * step), self.low), self.high) for step in steps}
        return sorted(found - {value})

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name} {' '.join(str(choice) for choice in self.choices)}"
        return f"{self.name} {self.low}-{self.high}"


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a search; all other settings keep their defaults.

    Attributes:
        batch_sizes: in examples, ascending; a single one isn't an axis.
        axes: the other axes.
        most_in_block: a block has at most this many elements per process, or a batch, whichever is
            more; None leaves only the axis's own bound.
        bridging: for a generator that pauses, the prefetch buffer that bridges its pauses, by batch
            size. At these sizes, only buffers near it are searched.
    """

    batch_sizes: tuple[int, ...]
    axes: tuple[Axis, ...]
    most_in_block: int | None = None
    bridging: Mapping[int, int] = field(default_factory=dict)

    def suggest(self, trial: optuna.Trial) -> PipelineConfig:
        """The configuration that `trial` should measure."""
        batch_size: Any = self.batch_sizes[0]
        if len(self.batch_sizes) > 1:
            batch_size = trial.suggest_categorical("batch_size", self.batch_sizes)
        return self._config(batch_size, {axis.name: axis.suggest(trial) for axis in self.axes})

    def params(self, config: PipelineConfig) -> dict[str, Value]:
        """The parameters for which `suggest` gives this configuration."""
        batch = {"batch_size": config.batch_size} if len(self.batch_sizes) > 1 else {}
        return {**batch, **{axis.name: getattr(config, axis.name) for axis in self.axes}}

    def config_of(self, params: Mapping[str, Any]) -> PipelineConfig:
        """The configuration that `suggest` gives for these parameters."""
        values = dict(params)
        return self._config(values.pop("batch_size", self.batch_sizes[0]), values)

    def resized(self, config: PipelineConfig, batch_size: int) -> PipelineConfig:
        """The same settings at another batch size, as far as they are offered there."""
        if config.batch_size == batch_size:
            return config
        return self._config(
            batch_size, {axis.name: getattr(config, axis.name) for axis in self.axes}
        )

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna describes them."""
        sizes = CategoricalDistribution(self.batch_sizes)
        batch = {"batch_size": sizes} if len(self.batch_sizes) > 1 else {}
        return {**batch, **{axis.name: axis.distribution for axis in self.axes}}

    def random_params(self, rng: random.Random) -> dict[str, Value]:
        """The parameters of a random configuration."""
        batch = {"batch_size": rng.choice(self.batch_sizes)} if len(self.batch_sizes) > 1 else {}
        return {**batch, **{axis.name: axis.random_value(rng) for axis in self.axes}}

    def neighbours(self, config: PipelineConfig) -> Iterator[PipelineConfig]:
        """The configurations that differ from this one in one setting, by a step."""
        for axis in self.axes:
            for value in axis.beside(getattr(config, axis.name)):
                yield self.config_of({**self.params(config), axis.name: value})
        for size in self.batch_sizes:
            if size != config.batch_size:
                yield self.config_of({**self.params(config), "batch_size": size})

    @property
    def described(self) -> list[str]:
        """Each axis as a text, with its range or its choices."""
        sizes = " ".join(str(size) for size in self.batch_sizes)
        return [f"batch_size {sizes}", *(str(axis) for axis in self.axes)]

    @property
    def plain(self) -> dict[str, Value]:
        """The parameters that fix a trial to the plain chain; empty without structural axes."""
        fields = PipelineConfig.model_fields
        return {axis.name: fields[axis.name].default for axis in self.axes if is_structural(axis)}

    def grid(self, **only: Sequence[Value]) -> Iterator[PipelineConfig]:
        """All combinations of the axes' points; a keyword gives other points for its axis."""
        names = [axis.name for axis in self.axes]
        points = [only.get(axis.name, axis.points) for axis in self.axes]
        for batch_size in self.batch_sizes:
            combined = (dict(zip(names, values, strict=True)) for values in product(*points))
            # Points beyond the largest block give the same configuration.
            yield from dict.fromkeys(self._config(batch_size, values) for values in combined)

    def _config(self, batch_size: int, values: Mapping[str, Any]) -> PipelineConfig:
        chosen = {"batch_size": batch_size, "prefetch_buffer": 1, "map_parallelism": 1, **values}
        if self.most_in_block is not None and "generator_chunk" in chosen:
            # Processes make their parts of a block at the same time.
            at_once = max(chosen.get("generator_workers", 0), 1)
            most = max(batch_size, self.most_in_block * at_once)
            chosen["generator_chunk"] = min(chosen["generator_chunk"], most)
        if batch_size in self.bridging:
            low, high = near(self.bridging[batch_size])
            chosen["prefetch_buffer"] = min(max(chosen["prefetch_buffer"], low), high)
        return PipelineConfig.model_validate(chosen)


def is_structural(axis: Axis) -> bool:
    """Whether an axis changes the plain chain of a generator."""
    return axis.name in STRUCTURE
