"""What a study is asked to do: one set of options from the command line to the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.objectives.spec import MAX_SEED, Device, StopRule
from prefetch_tuning.pipelines.config import MAX_BATCH_SIZE, one_line

# Together with the confirmation these keep the default run of the three built-in pipelines well
# under ten minutes on two cores. The search only nominates; most of the time belongs to the rounds.
DEFAULT_TRIALS = 24
DEFAULT_TIME_BUDGET_S = 20.0
DEFAULT_CONFIRM_BUDGET_S = 110.0
# Fewer give an interval that is hardly one, and a median that one slow round moves.
LEAST_ROUNDS = 9
MOST_ROUNDS = 10_000


# The values of options, with their bounds, for the command line and for Python alike.
Trials = Annotated[int, Field(ge=1)]
TimeBudgetS = Annotated[float, Field(gt=0, allow_inf_nan=False)]
BatchSize = Annotated[int, Field(ge=1, le=MAX_BATCH_SIZE)]
MemoryMib = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
TrialTimeoutS = Annotated[float, Field(ge=0.1, le=86_400, allow_inf_nan=False)]
Rounds = Annotated[int, Field(ge=LEAST_ROUNDS, le=MOST_ROUNDS)]
ConfirmBudgetS = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False)]
# Of a self-test, and of a rerun.
Comparisons = Annotated[int, Field(ge=1, le=10_000)]
Reruns = Annotated[int, Field(ge=1, le=10_000)]


class Options(BaseModel):
    """How pipelines are searched and confirmed. Every bound and default stands here, and only here.

    Attributes:
        trials: how many in total, those of an earlier run included; None for the default number
            within the default time.
        time_budget_s: search no longer than this; None for no limit.
        axes: "basic" for batch, prefetch and map parallelism; "all" for the structure, too.
        batch_size: search at this one only.
        memory_limit_mib: peak host memory above which a configuration is infeasible.
        trial_timeout_s: wall time after which a trial is killed.
        rounds: least number of the confirmation's rounds; 0 leaves it out.
        confirm_budget_s: rounds beyond the least number begin only within this time.
        tolerance: share of the best rate that may be given up for less memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trials: Trials | None = None
    time_budget_s: TimeBudgetS | None = None
    axes: Literal["basic", "all"] = "all"
    batch_size: BatchSize | None = None
    memory_limit_mib: MemoryMib | None = None
    device: Device = "auto"
    seed: Seed = 0
    trial_timeout_s: TrialTimeoutS = 90.0
    stop: StopRule = StopRule()
    rounds: Annotated[int, Field(ge=0, le=MOST_ROUNDS)] = LEAST_ROUNDS
    confirm_budget_s: ConfirmBudgetS = DEFAULT_CONFIRM_BUDGET_S
    tolerance: Tolerance = 0.02

    @field_validator("rounds")
    @classmethod
    def _enough(cls, rounds: int) -> int:
        if 0 < rounds < LEAST_ROUNDS:
            raise ValueError(f"must be at least {LEAST_ROUNDS}, or 0 for none, not {rounds}")
        return rounds

    @property
    def most_trials(self) -> int:
        """The number of trials that ends the search."""
        return DEFAULT_TRIALS if self.trials is None else self.trials

    @property
    def search_budget_s(self) -> float | None:
        """The time that ends the search; a number of trials alone is not cut short."""
        if self.time_budget_s is None and self.trials is None:
            return DEFAULT_TIME_BUDGET_S
        return self.time_budget_s


class TuneRequest(Options):
    """A run of `prefetch-tune tune`.

    Attributes:
        pipelines: names or `module:attribute`; empty for all built-in ones.
        study: base name; None makes one from the pipeline and the time.
    """

    pipelines: Sequence[str] = ()
    study: str | None = None

    @classmethod
    def checked(cls, **options: Any) -> Self:
        """A request of these options.

        Raises:
            UsageError: one of them is unknown or out of its bounds.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise UsageError(one_line(error)) from None


class TuneOptions(TypedDict, total=False):
    """The fields of `TuneRequest` as keywords of `tune()`; what is left out has its default."""

    trials: int | None
    time_budget_s: float | None
    axes: Literal["basic", "all"]
    batch_size: int | None
    memory_limit_mib: float | None
    device: Device
    seed: int
    trial_timeout_s: float
    stop: StopRule
    rounds: int
    confirm_budget_s: float
    tolerance: float
    study: str | None


class StudySettings(Options):
    """One study's options and its name; the same name continues it."""

    name: str

    @classmethod
    def of(cls, request: TuneRequest, pipeline: str, stamp: str, *, several: bool) -> StudySettings:
        """A pipeline's part of a request; an unnamed study takes its name from the time."""
        name = request.study or f"{pipeline}-{stamp}"
        if request.study and several:
            name = f"{request.study}-{pipeline}"
        options = {field: getattr(request, field) for field in Options.model_fields}
        return cls(name=name, **options)
