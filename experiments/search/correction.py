"""Corrects the prediction by the trials so far, where the two disagree. Pure.

The stages are measured alone, so the prediction can be wrong about a whole kind of configuration:
threads that the host has no room for, or processes that share a disk. All configurations of a kind
share the error, so one trial corrects the prediction of all others.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from prefetch_tuning.experiments.search.first_trials import candidates, switched_on
from prefetch_tuning.experiments.search.prediction import Predictor, Ranking
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# A trial disagrees if it reaches less than two thirds of its prediction, or more than 1.5 times it.
DISAGREES = 1.5

Seen = Sequence[tuple[PipelineConfig, float]]


class Correction:
    """Predicts rates from a pipeline's costs, corrected by its trials so far."""

    def __init__(self, costs: StageCosts, cores: float, seen: Seen) -> None:
        """`seen` has each trial's configuration and its rate in examples/s."""
        self._costs, self._cores = costs, cores
        self._predictor = Predictor(costs, cores)
        self._seen = seen

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
        alike: dict[int, list[float]] = {}
        for other, rate in self._seen:
            error = math.log(rate / self._predictor.rate(other))
            alike.setdefault(_likeness(config, other), []).append(error)
        if not alike:
            return 1.0
        errors = alike[max(alike)]
        return math.exp(sum(errors) / len(errors))


def lessons(costs: StageCosts, cores: float, seen: Seen) -> int:
    """Number of trials far from their prediction, as corrected by the trials before them."""
    return sum(
        disagrees(Correction(costs, cores, seen[:index]).predict(config), rate)
        for index, (config, rate) in enumerate(seen)
    )


def disagrees(predicted: float, measured: float) -> bool:
    """Whether a trial is so far from its prediction that the prediction missed something."""
    return not 1.0 / DISAGREES <= measured / predicted <= DISAGREES


def _likeness(one: PipelineConfig, other: PipelineConfig) -> int:
    """How similar two configurations are; what they switch on counts more than the rest."""
    ones, others = set(switched_on(one)), set(switched_on(other))
    parallel = (int(one.map_parallelism) > 1) == (int(other.map_parallelism) > 1)
    size = one.batch_size == other.batch_size
    return -4 * len(ones ^ others) + 2 * parallel + size


def rates_of(trials: Iterable[tuple[PipelineConfig, float | None]]) -> Seen:
    """The trials that gave a rate. A pruned one counts: it still tells how fast its kind is."""
    return [(config, rate) for config, rate in trials if rate]
