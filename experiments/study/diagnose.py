"""Measures what a diagnosis needs: the cost of each stage, and the generator's pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefetch_tuning.experiments.search.diagnosis import diagnose, producer_s
from prefetch_tuning.experiments.search.pauses import Pauses, find_pauses
from prefetch_tuning.experiments.search.stage_seconds import step_seconds
from prefetch_tuning.experiments.settings import (
    DEFAULT_TIME_BUDGET_S,
    DEFAULT_TRIALS,
    Options,
)
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Progress
from prefetch_tuning.objectives.arrivals import Arrivals
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts

# Length of the first recording, which shows whether the generator pauses.
FIRST_S = 6.0
# The second recording, of a generator that pauses.
MOST_PAUSES, MOST_S = 3, 30.0


def diagnose_study(study: PipelineStudy, progress: Progress) -> str | None:
    """Diagnoses a study's pipeline once and shows what was found.

    Returns a problem if the stages can't be measured. The search then starts unguided.
    """
    info, diagnosis = study.info, study.kept.diagnosis
    if not info.has_stages:
        progress.say(f"{info.name} builds its own chain, so its stages are not measured")
        return None
    if diagnosis is None and any(
        trial.params for trial in study.optuna_study.get_trials(deepcopy=False)
    ):
        progress.say(f"{info.name}: no diagnosis, because the search began without one")
        return None
    if diagnosis is None:
        settings = study.settings
        progress.say(f"{info.name}: measuring the cost of each stage, about fifteen seconds")
        costs = study.runner.measure_stages(
            info.target,
            settings.seed,
            settings.device,
            settings.trial_timeout_s,
            study.generator_cluster,
        )
        if isinstance(costs, TrialFailure):
            return f"{info.name}: no diagnosis, {costs.kind}: {costs.detail}"
        sizes = [settings.batch_size] if settings.batch_size else info.batch_sizes
        listener = Listener(study.runner, lambda text: progress.say(f"{info.name}: {text}"))
        pauses = listener.pauses_of(info.target, settings.seed, first_s(settings), costs, sizes)
        diagnosis = study.kept.diagnosis = diagnose(costs, study.kept.cores, pauses)
        study.measured_s += costs.measured_s + listener.measured_s
        if study.generator_cluster is not None:
            progress.say(f"{info.name}: {other_nodes_in_words(costs)}")
    progress.show_diagnosis(info.name, diagnosis)
    return None


class Listener:
    """Records when a generator's elements arrive.

    Attributes:
        measured_s: seconds of recording so far.
    """

    def __init__(self, runner: TrialRunner, say: Callable[[str], None]) -> None:
        """`say` shows a line, before a recording that takes longer or if one failed."""
        self._runner = runner
        self._say = say
        self.measured_s = 0.0

    def pauses_of(
        self, target: str, seed: int, first_s: float, costs: StageCosts, sizes: Sequence[int]
    ) -> Pauses | None:
        """The generator's pauses; None if ordinary trials see all there is.

        A PyDataset isn't recorded, because its workers make several batches at once.

        Args:
            target: the pipeline.
            seed: the generator's seed.
            first_s: seconds of the first recording.
            costs: the costs of the pipeline's stages.
            sizes: the batch sizes to search.
        """
        if costs.py_dataset:
            return None
        first = self._record(target, seed, first_s, 1)
        if first is None or not first.pauses:
            return None
        self._say(
            f"the generator paused for {first.pauses[0].seconds:.1f} s; recording it for at most "
            f"{MOST_S:.0f} s more"
        )
        found = self._record(target, seed, MOST_S, MOST_PAUSES)
        if found is None:
            return None
        copy_s = costs.device_copy.wall_s if costs.device_copy else 0.0
        step_s = {size: step_seconds(costs, size) + copy_s * size for size in sizes}
        return find_pauses(found, step_s, producer_s(costs) - costs.generator.wall_s)

    def _record(self, target: str, seed: int, most_s: float, most_pauses: int) -> Arrivals | None:
        found = self._runner.record_arrivals(target, seed, most_s, most_pauses)
        if isinstance(found, TrialFailure):
            self._say(f"the generator's pauses are unknown, {found.kind}: {found.detail}")
            return None
        self.measured_s += found.seconds
        return found


def other_nodes_in_words(costs: StageCosts) -> str:
    """What other nodes can do for the generator, and what binds there."""
    found = costs.elsewhere
    if found is None:
        return "the cluster has no other node, so the generator runs on this host"
    if costs.generator.waits:
        return (
            "the generator mostly waits, which takes no cores; many processes on this host help "
            "more: try it without --generator-cluster"
        )
    needed = costs.generator.wall_s / max(costs.step.wall_s, 1e-9)
    return (
        f"{len(found.cores)} other nodes with {sum(found.cores)} cores can run the generator; the "
        f"training step needs {needed:.1f} of its processes, and the network carries "
        f"{1.0 / max(found.sending_s, 1e-12):,.0f} examples/s"
    )


def first_s(options: Options) -> float:
    """Seconds of the first recording: fewer for a search that is shorter than by default."""
    share = 1.0
    if options.trials is not None:
        share = options.trials / DEFAULT_TRIALS
    if options.time_budget_s is not None:
        share = min(share, options.time_budget_s / DEFAULT_TIME_BUDGET_S)
    return FIRST_S * min(share, 1.0)
