"""The options of a study: one set of them, from the command line to the stored record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.objectives.named import DEFAULT_TARGET, ObjectiveName, objective
from prefetch_tuning.objectives.objective import Objective
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.spec import MAX_SEED, Device, StopRule
from prefetch_tuning.pipelines.config import MAX_BATCH_SIZE, one_line

# With these and the confirmation, `make tune` (three built-in pipelines) takes under ten minutes on
# two cores. The search only nominates candidates, so most of the time goes to the rounds.
DEFAULT_TRIALS = 24
DEFAULT_TIME_BUDGET_S = 20.0
DEFAULT_CONFIRM_BUDGET_S = 110.0
# With fewer rounds the interval says little, and a single slow round moves the median.
LEAST_ROUNDS = 9
MOST_ROUNDS = 10_000


# The types of option values with their bounds, shared by the command line and the Python API.
Trials = Annotated[int, Field(ge=1)]
TimeBudgetS = Annotated[float, Field(gt=0, allow_inf_nan=False)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)]
MemoryMib = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
# Seconds after which a trial is killed, unless the user says otherwise.
TRIAL_TIMEOUT_S = 90.0
TrialTimeoutS = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
Rounds = Annotated[int, Field(ge=LEAST_ROUNDS, le=MOST_ROUNDS)]
ConfirmBudgetS = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]
Target = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
# Comparisons of a self-test, and measurements of a rerun.
Comparisons = Annotated[int, Field(ge=1, le=10_000)]
Reruns = Annotated[int, Field(ge=1, le=10_000)]
# Of a training script: which of its calls of fit, and the steps of fit to time.
FitNumber = Annotated[int, Field(ge=1, le=1_000)]
Steps = Annotated[int, Field(ge=1, le=1_000_000)]
# Of a check: the share by which a configuration may be slower, and the seconds for its rounds.
Margin = Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]
CheckTimeS = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Options(BaseModel):
    """How pipelines are searched and confirmed; the only place for bounds and defaults.

    Attributes:
        trials: total number of trials, including those of an earlier run; None for the default
            number.
        time_budget_s: longest search in seconds; None for no limit if `trials` is given, otherwise
            for the default time.
        objective: what is optimised; None is utilisation if the step is emulated, otherwise
            throughput.
        target: least utilisation of the objective `utilisation`.
        axes: "basic" searches batch size, prefetch and map parallelism; "all" also the structure.
        batch_size: the only batch size to search; None for all of the pipeline's, or for the
            largest if the objective has a target.
        memory_limit_mib: peak host memory above which a configuration is infeasible.
        trial_timeout_s: wall time in seconds after which a trial is killed.
        rounds: least number of confirmation rounds; 0 skips the confirmation.
        confirm_budget_s: seconds within which rounds beyond the least number may begin.
        allow_reorder: whether the elements may come in another order.
        tolerance: share of the best rate to give up for less memory or an earlier first batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: Trials | None = None
    time_budget_s: TimeBudgetS | None = None
    objective: ObjectiveName | None = None
    target: Target = DEFAULT_TARGET
    axes: Literal["basic", "all"] = "all"
    batch_size: BatchSize | None = None
    memory_limit_mib: MemoryMib | None = None
    device: Device = "auto"
    seed: Seed = 0
    trial_timeout_s: TrialTimeoutS = TRIAL_TIMEOUT_S
    stop: StopRule = StopRule()
    rounds: Annotated[int, Field(ge=0, le=MOST_ROUNDS)] = LEAST_ROUNDS
    confirm_budget_s: ConfirmBudgetS = DEFAULT_CONFIRM_BUDGET_S
    allow_reorder: bool = False
    tolerance: Tolerance = 0.02

    @field_validator("rounds")
    @classmethod
    def _enough(cls, rounds: int) -> int:
        if 0 < rounds < LEAST_ROUNDS:
            raise ValueError(f"must be at least {LEAST_ROUNDS}, or 0 for none, not {rounds}")
        return rounds

    @property
    def goal(self) -> Objective:
        """What is optimised."""
        return objective(self.objective or "throughput", self.target)

    @property
    def most_trials(self) -> int:
        """The number of trials that ends the search."""
        return DEFAULT_TRIALS if self.trials is None else self.trials

    @property
    def search_budget_s(self) -> float | None:
        """Seconds after which the search ends; None if only a number of trials was given."""
        if self.time_budget_s is None and self.trials is None:
            return DEFAULT_TIME_BUDGET_S
        return self.time_budget_s


class TuneRequest(Options):
    """The options of one `prefetch-tune tune` run.

    Attributes:
        pipelines: names or `module:attribute`; empty for all built-in ones that don't need a GPU.
        study: name of the study, or the first part of the names if there are several pipelines;
            None makes a name from the pipeline and the time.
    """

    pipelines: Sequence[str] = ()
    study: str | None = None

    @classmethod
    def checked(cls, **options: Any) -> Self:
        """Makes a request from these options.

        Raises:
            UsageError: an option is unknown or out of bounds.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise UsageError(one_line(error)) from None


class TuneOptions(TypedDict, total=False):
    """The fields of `TuneRequest` as keywords of `tune()`; omitted ones keep their defaults."""

    trials: int | None
    time_budget_s: float | None
    objective: ObjectiveName | None
    target: float
    axes: Literal["basic", "all"]
    batch_size: int | None
    memory_limit_mib: float | None
    device: Device
    seed: int
    trial_timeout_s: float
    stop: StopRule
    rounds: int
    confirm_budget_s: float
    allow_reorder: bool
    tolerance: float
    study: str | None


class StudySettings(Options):
    """One study's options and its name; the same name resumes it."""

    name: str

    @classmethod
    def of(
        cls, request: TuneRequest, info: PipelineInfo, stamp: str, *, several: bool
    ) -> StudySettings:
        """One pipeline's part of a request; `stamp`, the time, names a study without a name.

        Raises:
            UsageError: there is a target, but the objective has none.
        """
        name = request.study or f"{info.name}-{stamp}"
        if request.study and several:
            name = f"{request.study}-{info.name}"
        options = {field: getattr(request, field) for field in Options.model_fields}
        options["objective"] = request.objective or (
            "utilisation" if info.stand_in else "throughput"
        )
        found = cls(name=name, **options)
        if found.goal.target is None and "target" in request.model_fields_set:
            raise UsageError(
                f"--target {request.target:g} is for --objective utilisation, and {info.name} is "
                f"tuned for {found.objective}; give --objective utilisation, or leave out --target"
            )
        if found.goal.target is not None and found.batch_size is None:
            # A larger batch changes the training, so it isn't a way to feed an accelerator.
            found = found.model_copy(update={"batch_size": max(info.batch_sizes)})
        return found
