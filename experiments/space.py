"""Which configurations are searched for a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import optuna

from experiments.environment import usable_cores
from objectives.measurement import PipelineInfo
from pipelines.config import PipelineConfig

# Above 64 batches a buffer has never been seen to help: it evens out the generator's pauses, and
# those that last longer than 64 steps are a rate, not a pause.
MAX_PREFETCH = 64
# A map that blocks gains from more calls in flight than there are cores.
CALLS_PER_CORE = 4
LEAST_CALLS = 8


@dataclass(frozen=True)
class SearchSpace:
    """The axes of a search. An axis with one value is left out of the study.

    Attributes:
        batch_sizes: in examples, ascending.
        max_prefetch: batches; the search begins at 1, no prefetch at all is a baseline.
        max_map_parallelism: elements in flight; 1 for a pipeline without a map.
    """

    batch_sizes: tuple[int, ...]
    max_prefetch: int
    max_map_parallelism: int

    @classmethod
    def for_pipeline(cls, info: PipelineInfo, batch_size: int | None = None) -> SearchSpace:
        """The axes that apply to a pipeline; `batch_size` takes the place of its own list."""
        calls = max(CALLS_PER_CORE * usable_cores(), LEAST_CALLS)
        return cls(
            batch_sizes=(batch_size,) if batch_size is not None else tuple(info.batch_sizes),
            max_prefetch=MAX_PREFETCH,
            max_map_parallelism=calls if info.has_transform else 1,
        )

    def suggest(self, trial: optuna.Trial) -> PipelineConfig:
        """The configuration that `trial` is to measure.

        Both look-ahead axes are searched on a log scale: from 1 to 2 is a change of kind, from
        33 to 34 none at all.
        """
        batch_size = self.batch_sizes[0]
        if len(self.batch_sizes) > 1:
            batch_size = trial.suggest_categorical("batch_size", self.batch_sizes)
        prefetch = trial.suggest_int("prefetch_buffer", 1, self.max_prefetch, log=True)
        calls = 1
        if self.max_map_parallelism > 1:
            calls = trial.suggest_int("map_parallelism", 1, self.max_map_parallelism, log=True)
        return PipelineConfig(
            batch_size=batch_size, prefetch_buffer=prefetch, map_parallelism=calls
        )

    def params(self, config: PipelineConfig) -> dict[str, int]:
        """The parameters that `suggest` would have to draw for a configuration of this space."""
        params = {"prefetch_buffer": int(config.prefetch_buffer)}
        if len(self.batch_sizes) > 1:
            params["batch_size"] = config.batch_size
        if self.max_map_parallelism > 1:
            params["map_parallelism"] = int(config.map_parallelism)
        return params

    def grid(self) -> Iterator[PipelineConfig]:
        """All configurations with powers of two on the look-ahead axes."""
        buffers = _powers_of_two(self.max_prefetch)
        calls = _powers_of_two(self.max_map_parallelism)
        for batch_size, buffer, parallel in product(self.batch_sizes, buffers, calls):
            yield PipelineConfig(
                batch_size=batch_size, prefetch_buffer=buffer, map_parallelism=parallel
            )


def _powers_of_two(limit: int) -> list[int]:
    return [2**exponent for exponent in range(limit.bit_length()) if 2**exponent <= limit]
