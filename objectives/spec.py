"""The spec of a trial: one JSON document that the parent writes and a fresh process runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from prefetch_tuning.pipelines.config import PipelineConfig, one_line
from prefetch_tuning.pipelines.target import Target

Device = Literal["auto", "cpu", "gpu"]
# One line of text: a record keeps it and a trial's process parses it.
TargetLine = Annotated[str, AfterValidator(lambda line: str(Target.parse(line)))]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


# TensorFlow's seeds are signed 32-bit integers.
MAX_SEED = 2**31 - 1
STOP_PREFIX = "stop."
PARAMS = ("pipeline", "seed", "device", *PipelineConfig.model_fields)


class SpecError(ValueError):
    """A document is not a valid spec; the message names the field and quotes the value."""


class StopRule(BaseModel):
    """When the start-up is over, when a measurement is good enough, and when it must end.

    Attributes:
        window_s: length of a window in seconds; it ends with the first step that passes it. On an
            asynchronous device it has at least five steps or lasts a second.
        startup_s: shortest time that is skipped before the first window counts.
        warmup_max_s: longest time that AUTOTUNE gets until its choices settle.
        min_windows: fewest windows for which an interval is trusted.
        max_s: time for counted windows; after it the trial ends even if the interval is wide.
        target_half_width: the trial ends early when the 95% interval is within +- this share.
        prune_share: the trial ends early when its whole interval is below this share of the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_s: Seconds = 0.15
    startup_s: Seconds = 0.3
    warmup_max_s: Seconds = 15.0
    min_windows: int = Field(default=6, ge=3, le=1_000)
    max_s: Seconds = 1.0
    target_half_width: float = Field(default=0.015, gt=0, lt=1)
    prune_share: float = Field(default=0.85, gt=0, lt=1)

    @property
    def longest_s(self) -> float:
        """Seconds of the longest measurement, whose rate may drift."""
        return self.warmup_max_s + 2 * self.max_s

    def deadline_s(self, timeout_s: float) -> float:
        """Seconds after which a measurement is killed; the default rule's gets `timeout_s`."""
        return timeout_s + max(self.longest_s - StopRule().longest_s, 0.0)


class TrialSpec(BaseModel):
    """One configuration of one pipeline, and how to measure it.

    Attributes:
        pipeline: `module:attribute` of the pipeline; a trial's process imports it.
        config: the settings of the tf.data chain.
        seed: seed of the generator, of the model's weights and of TensorFlow.
        device: "auto" takes a GPU if TensorFlow sees one.
        stop: the rules that end the start-up and the measurement.
        best_examples_per_s: best rate so far; a clearly worse trial is pruned against it.
        deadline_s: wall time in seconds after which the whole process group is killed.
        host_cap_mib: resident memory of the process tree above which it is killed.
        generator_cluster: address of a Ray cluster; its nodes run those `generator_workers` that
            this host has no cores for.
        digest_batches: first batches that get one digest each, before anything is counted.
        ceilings: also measure, after the trial, the rate of the chain without the step.
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
    generator_cluster: str | None = None
    digest_batches: int = Field(default=2, ge=2, le=100_000)
    ceilings: bool = False

    def to_json(self) -> str:
        """The JSON document; `from_json` turns it back into an equal spec."""
        return self.model_dump_json(indent=2)

    def to_params(self) -> dict[str, object]:
        """The parameters that decide the measurement, flat enough to log; see `from_params`.

        They leave out the rate that a trial was pruned against, how its data were checked, the
        limits that would have killed it and the cluster: those belong to the study that it ran in.
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

        The parameters come from a server, so they are data: this schema checks them and nothing
        is evaluated. A parameter that an older version didn't log gets its default.

        Raises:
            SpecError: a parameter without a default is missing, or one is unknown or invalid.
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
        """Reads a spec; the document is data, which is validated and never evaluated.

        Raises:
            SpecError: a field is missing, unknown or invalid.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise SpecError(one_line(error)) from None
