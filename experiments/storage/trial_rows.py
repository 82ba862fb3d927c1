"""The trials of a study, as its attributes in Optuna's storage keep them."""

from __future__ import annotations

from collections.abc import Iterable

from optuna.trial import FrozenTrial, TrialState

from prefetch_tuning.experiments.storage.results import MeasuredConfig, State, TrialRow
from prefetch_tuning.experiments.storage.schema import TrialAttr
from prefetch_tuning.experiments.storage.stored import lean, read_stored
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.pipelines.config import PipelineConfig

# The search gives up if this many trials ended and all failed.
FAILURES = 3


def state_of(trial: FrozenTrial) -> State:
    """The final state of a trial, in this project's terms."""
    state: State = trial.user_attrs.get(TrialAttr.STATE, "interrupted")
    return state


def all_failed(finished: Iterable[FrozenTrial]) -> str | None:
    """The first failure in one line if at least `FAILURES` trials ended and all failed."""
    trials = list(finished)
    if len(trials) < FAILURES or any(t.state is not TrialState.FAIL for t in trials):
        return None
    failure = trials[0].user_attrs.get(TrialAttr.FAILURE) or {}
    return f"{failure.get('kind')}: {failure.get('detail')}"


def row_of(trial: FrozenTrial) -> TrialRow:
    """A finished trial as a row of a report."""
    attrs = trial.user_attrs
    measured, failure = attrs.get(TrialAttr.MEASURED), attrs.get(TrialAttr.FAILURE)
    config = lean(read_stored(PipelineConfig, attrs[TrialAttr.CONFIG]))
    row = TrialRow(
        number=trial.number,
        config=config,
        state=state_of(trial),
        measured=None
        if measured is None
        else lean(read_stored(MeasuredConfig, measured, config=config)),
        failure=None if failure is None else read_stored(TrialFailure, failure),
        predicted_examples_per_s=attrs.get(TrialAttr.PREDICTED),
        warm_start=bool(attrs.get(TrialAttr.WARM_START, False)),
    )
    return lean(row)
