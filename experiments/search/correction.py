"""Corrects the prediction by the trials so far, where the two disagree. Pure.

The stages are measured alone, so the prediction can be wrong about a whole kind of configuration:
threads that the host has no room for, or processes that share a disk. All configurations of a kind
share the error, so one trial corrects the prediction of all others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from prefetch_tuning.experiments.search.first_trials import candidates, switched_on
from prefetch_tuning.experiments.search.prediction import Predictor, Ranking
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# A trial disagrees if it reaches less than two thirds of its prediction, or more than 1.5 times it.
DISAGREES = 1.5


class Traits(NamedTuple):
    """What makes configurations alike: what they switch on counts more than the rest."""

    switched_on: frozenset[str]
    parallel: bool
    batch_size: int

    @classmethod
    def of(cls, config: PipelineConfig) -> Traits:
        return cls(
            frozenset(switched_on(config)), int(config.map_parallelism) > 1, config.batch_size
        )

    def likeness(self, other: Traits) -> int:
        """How similar two kinds are; higher is more."""
        alike = 2 * (self.parallel == other.parallel) + (self.batch_size == other.batch_size)
        return alike - 4 * len(self.switched_on ^ other.switched_on)


class Errors(NamedTuple):
    """Logs of measured over predicted rates: their sum and their number."""

    total: float
    trials: int


class Correction:
    """Predicts rates from a pipeline's costs, corrected by its trials so far.

    Attributes:
        lessons: trials that were far from their prediction, as corrected by those before them.
    """

    def __init__(self, costs: StageCosts, cores: float) -> None:
        self._costs, self._cores = costs, cores
        self._predictor = Predictor(costs, cores)
        # The logs of measured over predicted, by kind.
        self._errors: dict[Traits, Errors] = {}
        self.lessons = 0

    def learn(self, config: PipelineConfig, examples_per_s: float) -> None:
        """Takes a trial. A pruned one counts: it still tells how fast its kind is."""
        self.lessons += disagrees(self.predict(config), examples_per_s)
        error = math.log(examples_per_s / self._predictor.rate(config))
        before = self._errors.get(Traits.of(config), Errors(0.0, 0))
        self._errors[Traits.of(config)] = Errors(before.total + error, before.trials + 1)

    def predict(self, config: PipelineConfig) -> float:
        """Predicted examples/s, corrected by the trials most like this configuration."""
        return self._predictor.rate(config) * self._factor(config)

    def best_untried(
        self,
        space: SearchSpace,
        tried: Collection[PipelineConfig],
        goal: Objective,
        to_beat: Reading | None,
    ) -> PipelineConfig | None:
        """The best predicted configuration that no trial has measured.

        Args:
            space: where to look.
            tried: configurations of earlier trials, including those that failed.
            goal: the study's objective.
            to_beat: the best usable trial; None without one.

        Returns:
            The configuration, or None if none is predicted to be better than `to_beat`.
        """
        ranking = Ranking(goal, self.predict, self._costs, self._cores)
        untried = (config for config in candidates(space) if config not in tried)
        worth = [
            config
            for config in untried
            if to_beat is None or goal.order(ranking.reading(config)) < goal.order(to_beat)
        ]
        return min(worth, key=ranking.key, default=None)

    def _factor(self, config: PipelineConfig) -> float:
        """Geometric mean of measured over predicted for the most similar kind; 1 without trials."""
        own = Traits.of(config)
        alike: dict[int, list[Errors]] = defaultdict(list)
        for other, errors in self._errors.items():
            alike[own.likeness(other)].append(errors)
        if not alike:
            return 1.0
        found = alike[max(alike)]
        return math.exp(sum(e.total for e in found) / sum(e.trials for e in found))


def disagrees(predicted: float, measured: float) -> bool:
    """Whether a trial is so far from its prediction that the prediction missed something."""
    return not 1.0 / DISAGREES <= measured / predicted <= DISAGREES
