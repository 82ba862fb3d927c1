"""The ways to search that are compared: ours, and what users would do instead."""

from __future__ import annotations

import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import optuna
from sklearn.exceptions import ConvergenceWarning

from benchmarks.side_by_side.search.surface import Surface
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
# keras-tuner's searches end after so many trials.
MANY = 1_000
# Its random trials before the first that its process chooses.
RANDOM_FIRST = 8

# A configuration, its rate in examples/s (0 if it failed or was pruned), and the trial's seconds.
Tried = tuple[PipelineConfig, float, float]
Measure = Callable[[PipelineConfig], tuple[float, float]]


class Way(Protocol):
    """A way to search; each item is a trial. The first begins after `begins_s` seconds."""

    begins_s: float

    def __iter__(self) -> Iterator[Tried]: ...


class Sampled:
    """An Optuna sampler alone, over the whole space."""

    begins_s = 0.0

    def __init__(
        self, space: SearchSpace, measure: Measure, sampler: optuna.samplers.BaseSampler
    ) -> None:
        self._space, self._measure, self._sampler = space, measure, sampler

    def __iter__(self) -> Iterator[Tried]:
        study = optuna.create_study(direction="maximize", sampler=self._sampler)
        while True:
            trial = study.ask()
            config = self._space.suggest(trial)
            rate, seconds = self._measure(config)
            study.tell(trial, rate)
            yield config, rate, seconds


class KerasTuner:
    """keras-tuner's Bayesian optimisation, which is a Gaussian process, over the whole space."""

    begins_s = 0.0

    def __init__(self, space: SearchSpace, measure: Measure, seed: int) -> None:
        self._space, self._measure, self._seed = space, measure, seed

    def __iter__(self) -> Iterator[Tried]:
        # It imports TensorFlow, which the other ways don't need.
        import keras_tuner  # noqa: PLC0415

        values = keras_tuner.HyperParameters()
        for axis in self._space.axes:
            if axis.choices:
                values.Choice(axis.name, [str(choice) for choice in axis.choices])
            else:
                values.Int(axis.name, axis.low, axis.high, sampling="log")
        if len(self._space.batch_sizes) > 1:
            values.Choice("batch_size", [str(size) for size in self._space.batch_sizes])
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(
            objective=keras_tuner.Objective("rate", "max"),
            max_trials=MANY,
            hyperparameters=values,
            allow_new_entries=False,
            num_initial_points=RANDOM_FIRST,  # by default, three per axis
            seed=self._seed + 1,  # it takes 0 for no seed
        )
        oracle.verbose = 0
        with tempfile.TemporaryDirectory() as folder:
            oracle._set_project_dir(folder, "search")  # as its Tuner does
            while True:
                with warnings.catch_warnings():
                    # Its process is fitted again for each trial, without a say in how.
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    trial = oracle.create_trial("here")
                config = self._space.config_of(self._chosen(trial.hyperparameters.values))
                rate, seconds = self._measure(config)
                oracle.update_trial(trial.trial_id, {"rate": rate})
                trial = oracle.get_trial(trial.trial_id)
                trial.status = "COMPLETED"
                oracle.end_trial(trial)
                yield config, rate, seconds

    def _chosen(self, values: dict[str, Any]) -> dict[str, Any]:
        """The values with their own types: keras-tuner wants choices of a single type.

        On a log scale, it also goes one beyond the end of a range.
        """
        choices: dict[str, Any] = {axis.name: axis.choices for axis in self._space.axes}
        choices["batch_size"] = self._space.batch_sizes
        highest = {axis.name: axis.high for axis in self._space.axes if not axis.choices}
        return {
            name: min(value, highest[name])
            if name in highest
            else next(choice for choice in choices[name] if str(choice) == value)
            for name, value in values.items()
        }


class Listed:
    """A list of configurations, again and again."""

    def __init__(
        self, configs: list[PipelineConfig], measure: Measure, begins_s: float = 0.0
    ) -> None:
        self._configs, self._measure, self.begins_s = configs, measure, begins_s

    def __iter__(self) -> Iterator[Tried]:
        while True:
            for config in self._configs:
                yield config, *self._measure(config)


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
        study = optuna.create_study(direction="maximize")
        self._runner = OnSurface(surface, random.Random(seed))  # noqa: S311
        self._study = PipelineStudy(
            study, surface.info, self._settings, self._runner, FakeTracker(), {}
        )
        self._study.begin()
        self._study.kept.diagnosis = surface.diagnosis

    def __iter__(self) -> Iterator[Tried]:
        search = Search(self._study)
        search.begin()
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


Make = Callable[[SearchSpace, Measure, int], Way]
# The searches that know nothing of pipelines.
OTHERS: dict[str, Make] = {
    "TPE": lambda space, measure, seed: Sampled(
        space, measure, optuna.samplers.TPESampler(seed=seed)
    ),
    "Gaussian process (keras-tuner)": KerasTuner,
    "random": lambda space, measure, seed: Sampled(
        space, measure, optuna.samplers.RandomSampler(seed=seed)
    ),
}


def replayed(surface: Surface, cores: float) -> dict[str, Callable[[int], Way]]:
    """All ways to search, on a surface, by name; each takes a seed."""
    space, diagnosis = surface.space, surface.diagnosis
    first = first_trials(diagnosis, space, cores, Throughput())
    thumb = [rule_of_thumb(space, cores)]

    def noisy(seed: int) -> Measure:
        rng = random.Random(seed)  # noqa: S311
        return lambda config: (surface.measured(config, rng), OVERHEAD_S + WHOLE_S)

    def other(make: Make) -> Callable[[int], Way]:
        return lambda seed: make(space, noisy(seed), seed)

    return {
        "ours": lambda seed: Ours(surface, seed),
        "first trials alone": lambda seed: Listed(first, noisy(seed), DIAGNOSIS_S),
        **{name: other(make) for name, make in OTHERS.items()},
        "rule of thumb": lambda seed: Listed(thumb, noisy(seed)),
    }


def rule_of_thumb(space: SearchSpace, cores: float) -> PipelineConfig:
    """What a page of advice would say, as far as the space offers it."""
    given = {**THUMB, "map_parallelism": max(math.floor(cores), 1)}
    chosen = {axis.name: given.get(axis.name, axis.points[0]) for axis in space.axes}
    return space.config_of({"batch_size": max(space.batch_sizes), **chosen})
