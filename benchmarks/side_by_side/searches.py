"""The ways to search that are compared: ours, and what users would do instead."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import optuna

from benchmarks.side_by_side.surface import Surface
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.search import Search
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import FakeRunner, FakeTracker, measurement

# A rule of thumb: blocks of 256 elements, a few batches ahead, and as many calls as cores.
THUMB: dict[str, Any] = {"generator_chunk": 256, "prefetch_buffer": 4}
# What a trial takes beyond its measuring, and how long it measures: in full, and if it is pruned.
OVERHEAD_S, WHOLE_S, PRUNED_S = 0.6, 1.4, 0.7
# A trial whose rate is below this share of its rival's is pruned.
PRUNED_BELOW = 0.85
# What the diagnosis of the default study takes before the first trial.
DIAGNOSIS_S = 20.0

Tried = tuple[PipelineConfig, float, float]


class Way(Protocol):
    """A way to search; each item is a configuration, its measured rate, and the trial's seconds."""

    begins_s: float

    def __iter__(self) -> Iterator[Tried]: ...


class Sampled:
    """An Optuna sampler alone, over the whole space."""

    begins_s = 0.0

    def __init__(self, surface: Surface, sampler: optuna.samplers.BaseSampler, seed: int) -> None:
        self._surface, self._sampler = surface, sampler
        self._rng = random.Random(seed)  # noqa: S311

    def __iter__(self) -> Iterator[Tried]:
        study = optuna.create_study(direction="maximize", sampler=self._sampler)
        while True:
            trial = study.ask()
            config = self._surface.space.suggest(trial)
            rate = self._surface.measured(config, self._rng)
            study.tell(trial, rate)
            yield config, rate, OVERHEAD_S + WHOLE_S


class Listed:
    """A list of configurations, again and again."""

    def __init__(
        self, surface: Surface, configs: list[PipelineConfig], seed: int, begins_s: float = 0.0
    ) -> None:
        self._surface, self._configs, self.begins_s = surface, configs, begins_s
        self._rng = random.Random(seed)  # noqa: S311

    def __iter__(self) -> Iterator[Tried]:
        while True:
            for config in self._configs:
                yield config, self._surface.measured(config, self._rng), OVERHEAD_S + WHOLE_S


class Ours:
    """This project's search as a study runs it, with its storage and its measurements stubbed."""

    begins_s = DIAGNOSIS_S

    def __init__(self, surface: Surface, seed: int) -> None:
        self._settings = StudySettings(
            name="replay",
            seed=seed,
            objective="throughput",
            **surface.options.model_dump(exclude={"seed", "objective"}),
        )
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=8),
        )
        self._runner = OnSurface(surface, random.Random(seed))  # noqa: S311
        self._study = PipelineStudy(
            study, surface.info, self._settings, self._runner, FakeTracker(), {}
        )
        self._study.begin()
        self._study.kept.diagnosis = surface.diagnosis

    def __iter__(self) -> Iterator[Tried]:
        search = Search(self._study)
        search.enqueue_predicted()
        while True:
            outcome = search.run_trial()
            rate = outcome.measured.examples_per_s if outcome.measured else 0.0
            if outcome.state == "pruned":
                yield outcome.config, 0.0, OVERHEAD_S + PRUNED_S  # it isn't a candidate
            else:
                yield outcome.config, rate, OVERHEAD_S + WHOLE_S


class OnSurface(FakeRunner):
    """Measures on a surface; prunes as a trial does."""

    def __init__(self, surface: Surface, rng: random.Random) -> None:
        super().__init__([])
        self._surface, self._rng = surface, rng

    def measure(self, spec: Any) -> Any:
        rate = self._surface.measured(spec.config, self._rng)
        rival = spec.best_examples_per_s
        pruned = rival is not None and rate < PRUNED_BELOW * rival
        return measurement(rate, stopped="pruned" if pruned else "precise")


def ways(surface: Surface, cores: float) -> dict[str, Callable[[int], Way]]:
    """All ways to search, by name; each takes a seed."""
    space, diagnosis = surface.space, surface.diagnosis
    first = first_trials(diagnosis, space, cores, Throughput())
    thumb = [rule_of_thumb(space, cores)]
    samplers = optuna.samplers
    return {
        "ours": lambda seed: Ours(surface, seed),
        "first trials alone": lambda seed: Listed(surface, first, seed, DIAGNOSIS_S),
        "TPE": lambda seed: Sampled(surface, samplers.TPESampler(seed=seed), seed),
        "random": lambda seed: Sampled(surface, samplers.RandomSampler(seed=seed), seed),
        "rule of thumb": lambda seed: Listed(surface, thumb, seed),
    }


def rule_of_thumb(space: SearchSpace, cores: float) -> PipelineConfig:
    """What a page of advice would say, as far as the space offers it."""
    given = {**THUMB, "map_parallelism": max(math.floor(cores), 1)}
    chosen = {axis.name: given.get(axis.name, axis.points[0]) for axis in space.axes}
    return space.config_of({"batch_size": max(space.batch_sizes), **chosen})
