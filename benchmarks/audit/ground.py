"""What parts measure with: a bench that also remembers diagnoses, limits and studies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.audit.access import (
    NotMeasuredError,
    Studied,
    UnavailableError,
    diagnosis_of,
    first_guesses,
    measure_limit,
    run_study,
    space_of,
)
from benchmarks.audit.judging import Estimate, ratio
from benchmarks.audit.truths import PlantedTruth
from benchmarks.bench import BRIEF, Bench, paired
from benchmarks.journal import Journal
from prefetch_tuning.experiments.host.environment import host_fingerprint
from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.objectives.measurement import LimitTerms, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# The pipelines that have a grid, by name.
PLANTED = {
    "blocking_map": "benchmarks.audit.planted:BlockingMap",
    "socket_map": "benchmarks.audit.planted:SocketMap",
    "busy_map": "benchmarks.audit.planted:BusyMap",
    "blocking_generator": "benchmarks.audit.planted:BlockingGenerator",
    "slow_step": "benchmarks.audit.planted:SlowStep",
}
SHARED_CORES = "benchmarks.audit.planted:SharedCores"

MeasureLimit = Callable[[str, int], LimitTerms]


@dataclass(frozen=True)
class Ground:
    """A pipeline, its diagnosis, and the space that a study would search."""

    info: PipelineInfo
    diagnosis: Diagnosis
    space: SearchSpace

    @property
    def autotune(self) -> PipelineConfig:
        """AUTOTUNE at the largest batch size."""
        return PipelineConfig.autotune(max(self.space.batch_sizes), **self.info.own)


class AuditBench(Bench):
    """A bench whose journal also keeps measurements that aren't trials."""

    def __init__(
        self,
        runner: TrialRunner,
        journal: Journal,
        truths: Mapping[str, PlantedTruth],
        seed: int = 0,
    ) -> None:
        super().__init__(runner, journal, seed)
        self._truths = truths

    @property
    def folder(self) -> Path:
        """The folder in which studies are kept."""
        return self.journal.path.parent

    def truth(self, name: str) -> PlantedTruth:
        """The best configuration of the grid over a pipeline's space.

        Raises:
            UnavailableError: no grid of the pipeline was collected.
        """
        if name not in self._truths:
            raise UnavailableError(
                f"no truth of {name}: run benchmarks/grid.py, then benchmarks.audit.truths"
            )
        return self._truths[name]

    def doubt(self, truth: PlantedTruth, ground: Ground) -> str:
        """Why the best of the grid may be another one here, as the end of a cell; or nothing."""
        if truth.source_digest != ground.info.source_digest:
            return "; its grid had other source"
        return "" if truth.host == host_fingerprint() else "; its grid is from another host"

    def ground(self, target: str) -> Ground:
        """Describes and diagnoses a pipeline.

        Raises:
            NotMeasuredError: its stages could not be measured.
        """
        line = self.journal.find("ground", target)
        if line is None:
            info = self.runner.inspect(target, self.seed, "auto")
            costs = self.runner.measure_stages(target, self.seed, "auto")
            if isinstance(costs, TrialFailure):
                raise NotMeasuredError(f"{target}: no diagnosis, {costs.kind}: {costs.detail}")
            line = self.journal.add("ground", target, info=info, costs=costs)
        info = PipelineInfo.model_validate(line["info"])
        diagnosis = diagnosis_of(StageCosts.model_validate(line["costs"]))
        return Ground(info, diagnosis, space_of(info, diagnosis))

    def best_guesses(self, part: str, ground: Ground, count: int) -> dict[str, PipelineConfig]:
        """The best of a study's first trials, each measured briefly, as guess-1, guess-2, ...

        Raises:
            NotMeasuredError: none of them could be measured.
        """
        rates: dict[PipelineConfig, float] = {}
        for number, config in enumerate(first_guesses(ground.diagnosis, ground.space), start=1):
            rate = self.rate(part, f"brief/{number}", ground.info.target, config, BRIEF)
            if rate is not None:
                rates[config] = rate
        if not rates:
            raise NotMeasuredError(f"{ground.info.name}: no first trial could be measured")
        best = sorted(rates, key=lambda config: -rates[config])[:count]
        return {f"guess-{rank}": config for rank, config in enumerate(best, start=1)}

    def ratio(
        self,
        part: str,
        target: str | Mapping[str, str],
        configs: Mapping[str, PipelineConfig],
        count: int,
        below: str,
        above: str,
    ) -> Estimate:
        """The ratio of the candidate `above` to `below`, in rounds as `rounds` runs them.

        Raises:
            NotMeasuredError: no round measured both.
        """
        rates = paired(self.rounds(part, target, configs, count), below, above)
        if not rates[0]:
            raise NotMeasuredError(f"{part}: no round was complete")
        return ratio(*rates)

    def limits(self, part: str) -> MeasureLimit:
        """Returns a function that measures a limit per call, unless the journal has the call."""
        calls: Counter[tuple[str, int]] = Counter()

        def measure(target: str, batch_size: int) -> LimitTerms:
            calls[target, batch_size] += 1
            key = f"{target}/{batch_size}/{calls[target, batch_size]}"
            line = self.journal.find(part, key)
            if line is None:
                terms = measure_limit(self.runner, target, batch_size, self.seed)
                line = self.journal.add(part, key, terms=terms)
            return LimitTerms.model_validate(line["terms"])

        return measure

    def study(self, name: str, target: str, number: int) -> Studied:
        """A pipeline's study of this number, which is also its seed."""
        key = f"{name}/{number}"
        line = self.journal.find("study", key)
        if line is None:
            study = f"{self.journal.path.stem}-{name}-{number}"
            found = run_study(self.runner, self.folder, target, study, number)
            line = self.journal.add("study", key, studied=found)
        return Studied.model_validate(line["studied"])
