"""What the trials so far teach about the prediction, where the two disagree. Pure.

The stages run alone, so the prediction can be wrong about a whole kind of configuration: threads
that the host has no room for, processes that share a disk. Such an error belongs to the kind, so
that one trial of it corrects all others of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from prefetch_tuning.experiments.search.first_trials import candidates, rank_by, switched_on
from prefetch_tuning.experiments.search.prediction import Predictor
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# A trial that reaches two thirds of its prediction, or half as much again, was misunderstood.
DISAGREES = 1.5

Seen = Sequence[tuple[PipelineConfig, float]]


class Correction:
    """The prediction of a pipeline's costs, corrected by the trials that there were."""

    def __init__(self, costs: StageCosts, cores: float, seen: Seen) -> None:
        """`seen` has each trial's configuration and its rate in examples/s."""
        self._predictor = Predictor(costs, cores)
        self._seen = seen

    def predict(self, config: PipelineConfig) -> float:
        """Examples/s, by the trials that are most like this configuration."""
        return self._predictor.rate(config) * self._factor(config)

    def best_untried(
        self, space: SearchSpace, tried: Collection[PipelineConfig], to_beat: float
    ) -> PipelineConfig | None:
        """The best predicted configuration that no trial has had.

        Args:
            space: where to look.
            tried: what trials have had, those that failed included.
            to_beat: examples/s of the best trial that can be used.

        Returns:
            None where none is predicted to be faster than that.
        """
        untried = (config for config in candidates(space) if config not in tried)
        worth = [config for config in untried if self.predict(config) > to_beat]
        return min(worth, key=lambda config: rank_by(self.predict, config), default=None)

    def _factor(self, config: PipelineConfig) -> float:
        """Geometric mean of measured over predicted of the most similar kind; 1 without trials."""
        alike: dict[int, list[float]] = {}
        for other, rate in self._seen:
            error = math.log(rate / self._predictor.rate(other))
            alike.setdefault(_likeness(config, other), []).append(error)
        if not alike:
            return 1.0
        errors = alike[max(alike)]
        return math.exp(sum(errors) / len(errors))


def lessons(costs: StageCosts, cores: float, seen: Seen) -> int:
    """How often a trial was far from its prediction, corrected by the trials before it."""
    return sum(
        disagrees(Correction(costs, cores, seen[:index]).predict(config), rate)
        for index, (config, rate) in enumerate(seen)
    )


def disagrees(predicted: float, measured: float) -> bool:
    """Whether a prediction and its trial are so far apart that something was not understood."""
    return not 1.0 / DISAGREES <= measured / predicted <= DISAGREES


def _likeness(one: PipelineConfig, other: PipelineConfig) -> int:
    """Traits that two configurations share; what is switched on counts before the rest."""
    ones, others = set(switched_on(one)), set(switched_on(other))
    parallel = (int(one.map_parallelism) > 1) == (int(other.map_parallelism) > 1)
    size = one.batch_size == other.batch_size
    return -4 * len(ones ^ others) + 2 * parallel + size


def rates_of(trials: Iterable[tuple[PipelineConfig, float | None]]) -> Seen:
    """Trials that gave a rate; one that was stopped early still tells how fast its kind is."""
    return [(config, rate) for config, rate in trials if rate]
