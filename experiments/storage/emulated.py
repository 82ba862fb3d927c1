"""The time of an emulated step: as given, of a known accelerator, or as `step-time` logged it."""

from __future__ import annotations

from pathlib import Path

from prefetch_tuning.experiments.storage.locations import RUNS, Store
from prefetch_tuning.pipelines.accelerators import accelerator
from prefetch_tuning.pipelines.step_time import StepTime


def emulated_step(
    step_time: StepTime | None, name: str | None, tracking_uri: str | None
) -> StepTime | None:
    """The step that takes the place of the model's; None for the model's own.

    Args:
        step_time: the time, if the user gave it.
        name: a known accelerator, or `runs:/RUN_ID` of a run of `prefetch-tune step-time`.
        tracking_uri: the MLflow server that has the run; None for the default.

    Raises:
        PipelineError: there is no such accelerator.
        StoreError, StudyError: the run can't be read, or has no step time.
    """
    if name is None:
        return step_time
    if not name.startswith(RUNS):
        return accelerator(name).step_time
    # MLflow takes a second to import, and few commands need it here.
    from prefetch_tuning.experiments.storage.runs.reader import RunReader  # noqa: PLC0415

    store = Store.choose(Path.cwd(), None, tracking_uri, runs_only=True)
    store.check_tracking_exists()
    return RunReader(store).step_time(name.removeprefix(RUNS))
