"""Everything a trial needs, as one JSON document: the parent writes it, a fresh process runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from prefetch_tuning.pipelines.config import PipelineConfig, one_line
from prefetch_tuning.pipelines.target import Target

Device = Literal["auto", "cpu", "gpu"]
# As one line: a record keeps it, and a trial's process takes it apart.
TargetLine = Annotated[str, AfterValidator(lambda line: str(Target.parse(line)))]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


# TensorFlow takes 32 bits with a sign.
MAX_SEED = 2**31 - 1
STOP_PREFIX = "stop."
PARAMS = ("pipeline", "seed", "device", *PipelineConfig.model_fields)


class SpecError(ValueError):
    """A document is not a valid spec; the message names the field and quotes the value."""


class StopRule(BaseModel):
    """When a measurement has started up, when it is good enough, and when it must end.

    Attributes:
        window_s: length of a window; it ends with the first step that passes it.
        startup_s: least time that is skipped before the first window counts.
        warmup_max_s: most time an AUTOTUNE configuration gets until its choices settle.
        min_windows: windows below which no interval is believed.
        max_s: time for counted windows; passing it ends the trial even if the interval is wide.
        target_half_width: the trial ends early when the 95 % interval is within +- this share.
        prune_share: a trial ends early when its whole interval lies below this share of the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: Seconds = 0.15
    startup_s: Seconds = 0.3
    warmup_max_s: Seconds = 15.0
    min_windows: int = Field(default=6, ge=3, le=1_000)
    max_s: Seconds = 1.0
    target_half_width: float = Field(default=0.015, gt=0, lt=1)
    prune_share: float = Field(default=0.85, gt=0, lt=1)


class TrialSpec(BaseModel):
    """One configuration of one pipeline, and how it is to be measured.

    Attributes:
        pipeline: `module:attribute` of the pipeline; a trial's process imports it.
        config: the settings of the tf.data chain.
        seed: of the generator, the model's weights and TensorFlow.
        device: "auto" takes a GPU where TensorFlow sees one.
        stop: the rules that end the start-up and the measurement.
        best_examples_per_s: best rate so far, which a clearly worse trial is pruned against.
        deadline_s: wall time after which the whole process group is killed.
        host_cap_mib: resident memory of the process tree beyond which it is killed.
        digest_batches: batches whose digests are taken, each by itself, before anything counts.
        ceilings: measure afterwards what the chain reaches without the step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: TargetLine
    config: PipelineConfig
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    device: Device = "auto"
    stop: StopRule = StopRule()
    best_examples_per_s: float | None = Field(default=None, gt=0)
    deadline_s: Seconds = 90.0
    host_cap_mib: float | None = Field(default=None, gt=0)
    digest_batches: int = Field(default=2, ge=2, le=100_000)
    ceilings: bool = False

    def to_json(self) -> str:
        """The document that `from_json` reads back to an equal spec."""
        return self.model_dump_json(indent=2)

    def to_params(self) -> dict[str, object]:
        """What decides the measurement, flat enough to log; `from_params` reads it back.

        What a trial was pruned against, how its data were checked and what would have killed it
        are not in it: they belong to the study that it ran in.
        """
        rule = {f"{STOP_PREFIX}{key}": value for key, value in self.stop.model_dump().items()}
        return {
            "pipeline": self.pipeline,
            **self.config.to_params(),
            "seed": self.seed,
            "device": self.device,
            **rule,
        }

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> TrialSpec:
        """Rebuilds a spec from logged parameters, whose values may be strings.

        They come from a server, so they are data: checked by this schema, never evaluated. What an
        older version did not log yet has its default.

        Raises:
            SpecError: a parameter without a default is missing, or one is unknown or out of range.
        """
        known = {*PARAMS, *(f"{STOP_PREFIX}{name}" for name in StopRule.model_fields)}
        if unknown := sorted(params.keys() - known):
            raise SpecError(f"unknown parameter: {', '.join(map(repr, unknown))}")
        document = {name: params[name] for name in ("pipeline", "seed", "device") if name in params}
        config = {name: params[name] for name in PipelineConfig.model_fields if name in params}
        rule = {
            name.removeprefix(STOP_PREFIX): value
            for name, value in params.items()
            if name.startswith(STOP_PREFIX)
        }
        try:
            return cls.model_validate({**document, "config": config, "stop": rule})
        except ValidationError as error:
            raise SpecError(one_line(error)) from None

    @classmethod
    def from_json(cls, text: str) -> TrialSpec:
        """Reads a spec; a document is data, validated and never evaluated.

        Raises:
            SpecError: a field is missing, unknown or out of range.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(one_line(error)) from None
