"""A grid's three passes: all points briefly, the best ten in rounds, the best three in more."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from pydantic import BaseModel, Field

from benchmarks.bench import BRIEF, Bench, Rates, paired, say
from benchmarks.grids.points import reference, thinned
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.pipelines.config import PipelineConfig

POINTS, TEN, THREE = "points", "ten", "three"
AUTOTUNE = "autotune"
NOMINEES, FINALISTS = 10, 3


class GridSettings(BaseModel):
    """The settings that decide which trials a grid runs.

    Attributes:
        points: about how many points; 0 for all.
        batch_size: in examples; rates are comparable at equal batch size only.
        reference_every: after so many points, the reference is measured.
        rounds_of_ten, rounds_of_three: how often the best ten and the best three are measured.
        seed: the seed of the choice of points, and of the pipeline.
    """

    points: int = Field(default=120, ge=0)
    batch_size: int = Field(ge=1)
    reference_every: int = Field(default=1, ge=1)
    rounds_of_ten: int = Field(default=9, ge=1)
    rounds_of_three: int = Field(default=30, ge=1)
    seed: int = 0


@dataclass(frozen=True)
class GridFound:
    """What the rounds measured.

    Attributes:
        configs: the configuration of each candidate, including AUTOTUNE.
        ten, three: examples/s by candidate, one mapping per round.
    """

    configs: dict[str, PipelineConfig]
    ten: list[Rates]
    three: list[Rates]


class Grid:
    """A grid over one pipeline's search space at one batch size."""

    def __init__(
        self,
        bench: Bench,
        target: str,
        space: SearchSpace,
        settings: GridSettings,
        autotune: PipelineConfig,
    ) -> None:
        self._bench = bench
        self._target = target
        self._space = space
        self._settings = settings
        self._autotune = autotune

    def run(self) -> GridFound:
        """Measures what the journal doesn't have yet."""
        settings = self._settings
        ranked = self.points()
        configs = {f"{rank:02d}": config for rank, config in enumerate(ranked[:NOMINEES], start=1)}
        configs[AUTOTUNE] = self._autotune
        ten = self._bench.rounds(TEN, self._target, configs, settings.rounds_of_ten)
        best = best_of(ten, [name for name in configs if name != AUTOTUNE])[:FINALISTS]
        # AUTOTUNE takes part, so the ratio to it is from rounds that didn't choose the three.
        finalists = {name: configs[name] for name in [*best, AUTOTUNE]}
        three = self._bench.rounds(THREE, self._target, finalists, settings.rounds_of_three)
        return GridFound(configs, ten, three)

    def points(self) -> list[PipelineConfig]:
        """All points that could be measured, the highest ratio to the reference first.

        The reference is measured before the first point and after every `reference_every` points.
        Each point is compared with the one before it and the one after it, because what changes on
        the host within minutes affects all of them.
        """
        points = thinned(self._space, self._settings.points, self._settings.seed)
        beside = reference(self._space)
        ratios: dict[PipelineConfig, float] = {}
        before = self._brief("reference/0000", beside)
        between: dict[PipelineConfig, float] = {}
        for number, point in enumerate(points, start=1):
            rate = self._brief(f"point/{number:04d}", point)
            if rate is not None:
                between[point] = rate
            if number % self._settings.reference_every == 0 or number == len(points):
                after = self._brief(f"reference/{number:04d}", beside)
                around = [found for found in (before, after) if found is not None]
                if around:
                    ratios |= {one: its / statistics.fmean(around) for one, its in between.items()}
                before, between = after, {}
            if number % 10 == 0 or number == len(points):
                say(f"{number} of {len(points)} points")
        return sorted(ratios, key=lambda point: -ratios[point])

    def _brief(self, key: str, config: PipelineConfig) -> float | None:
        return self._bench.rate(POINTS, key, self._target, config, BRIEF)


def best_of(rounds: list[Rates], names: list[str]) -> list[str]:
    """The candidates that were measured, the highest median first."""
    medians = {
        name: statistics.median(rates) for name in names for rates in paired(rounds, name) if rates
    }
    return sorted(medians, key=lambda name: -medians[name])
