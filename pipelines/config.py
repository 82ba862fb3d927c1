"""The settings of one tf.data chain: frozen, validated, and flat enough to log as parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

AUTO: Literal["auto"] = "auto"

# Upper bounds keep a typing mistake or a tampered record from taking the machine down. They lie
# far above anything that ever won a study: a prefetch buffer of 64 batches is already generous.
MAX_BATCH_SIZE = 65_536
MAX_PREFETCH_BUFFER = 4_096
MAX_MAP_PARALLELISM = 1_024


class ConfigError(ValueError):
    """A setting is missing, unknown or out of range; the message quotes it and the bound."""


class PipelineConfig(BaseModel):
    """How the chain `generator -> map -> batch -> prefetch` is set up.

    Attributes:
        batch_size: examples a batch. Scope: the model sees it too, so it changes training, not
            only speed; configurations are compared at equal batch size.
        prefetch_buffer: finished batches held ready for the step; 0 leaves `prefetch` out. "auto"
            hands the choice to `tf.data.AUTOTUNE`.
        map_parallelism: elements of the map in flight at once. 1 is the sequential `map(f)`
            (without `num_parallel_calls`, so not even one call runs ahead); "auto" is AUTOTUNE.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(ge=1, le=MAX_BATCH_SIZE)
    prefetch_buffer: int | Literal["auto"] = Field(union_mode="left_to_right")
    map_parallelism: int | Literal["auto"] = Field(union_mode="left_to_right")

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        _check_range("prefetch_buffer", self.prefetch_buffer, 0, MAX_PREFETCH_BUFFER)
        _check_range("map_parallelism", self.map_parallelism, 1, MAX_MAP_PARALLELISM)
        # Half an AUTOTUNE would be neither what a user writes today nor a pinned configuration.
        if (self.prefetch_buffer == AUTO) != (self.map_parallelism == AUTO):
            raise ValueError(
                'prefetch_buffer and map_parallelism are "auto" together or not at all'
            )
        return self

    @property
    def is_autotune(self) -> bool:
        """True for what a user writes today: AUTOTUNE on every knob, tf.data's default options."""
        return self.prefetch_buffer == AUTO

    @classmethod
    def autotune(cls, batch_size: int) -> Self:
        """The AUTOTUNE baseline at `batch_size`."""
        return cls(batch_size=batch_size, prefetch_buffer=AUTO, map_parallelism=AUTO)

    @classmethod
    def no_prefetch(cls, batch_size: int) -> Self:
        """The baseline without any look-ahead: sequential map, no prefetch."""
        return cls(batch_size=batch_size, prefetch_buffer=0, map_parallelism=1)

    @classmethod
    def from_params(cls, params: Mapping[str, object]) -> Self:
        """Rebuilds a configuration from logged parameters (their values may be strings).

        Raises:
            ConfigError: a parameter is missing, unknown or out of range.
        """
        try:
            return cls.model_validate(dict(params))
        except ValidationError as error:
            raise ConfigError(one_line(error)) from None

    def to_params(self) -> dict[str, int | str]:
        """The inverse of `from_params`: parameter name to value."""
        return self.model_dump()

    def __str__(self) -> str:
        return (
            f"batch {self.batch_size}, prefetch {self.prefetch_buffer}, map {self.map_parallelism}"
        )


def _check_range(name: str, value: int | str, low: int, high: int) -> None:
    if isinstance(value, int) and not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")


def one_line(error: ValidationError) -> str:
    """What pydantic found wrong, each finding as `field: message (got value)`, on one line."""
    findings = []
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(
            str(part) for part in item["loc"] if part not in ("int", "literal['auto']")
        )
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
        findings.append(f"{place}: {message}{given}" if place else message)
    return "; ".join(dict.fromkeys(findings))
