"""The settings of one tf.data chain: frozen, validated, and flat enough to log as parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

AUTO: Literal["auto"] = "auto"
UNBOUNDED: Literal["unbounded"] = "unbounded"
# tf.data.AUTOTUNE as a number, because the process that runs a study doesn't import TensorFlow.
_AUTOTUNE = -1

# Upper bounds keep a typing mistake or a tampered record from taking the machine down. They are
# far above anything that ever won a study. A prefetch buffer of 64 batches is already generous.
MAX_BATCH_SIZE = 65_536
MAX_PREFETCH_BUFFER = 4_096
MAX_MAP_PARALLELISM = 1_024
MAX_GENERATOR_CHUNK = 1_024
MAX_PROCESSES = 256
MAX_THREADS = 1_024
MAX_QUEUE = 4_096
# Bounds of the settings that may also be a word, as in "auto".
BOUNDS = {
    "prefetch_buffer": (0, MAX_PREFETCH_BUFFER),
    "map_parallelism": (1, MAX_MAP_PARALLELISM),
    "thread_pool_size": (0, MAX_THREADS),
}


class ConfigError(ValueError):
    """A setting is missing, unknown or out of range; the message quotes it and the bound."""


class PipelineConfig(BaseModel):
    """The settings of the chain `generator -> map -> batch -> prefetch`.

    Every pipeline has the first three. The others change the structure of the chain, and only
    `reorder` changes the order of its data. Their defaults leave the structure as it is.

    Attributes:
        batch_size: examples per batch. The model sees it too, so it changes training, not only
            speed. Configurations are compared at equal batch size.
        prefetch_buffer: finished batches kept ready for the step. 0 leaves `prefetch` out; "auto"
            leaves the choice to `tf.data.AUTOTUNE`.
        map_parallelism: elements of the map in flight at once. 1 is the sequential `map(f)`,
            without `num_parallel_calls`, so not even one call runs ahead. "auto" is AUTOTUNE.
        generator_chunk: elements that cross from Python to tf.data at once; 1 is one by one.
        vectorized_map: whether the map runs on whole batches, after batching.
        generator_workers: processes that run the generator, one shard each; 0 is this process.
        thread_pool_size: threads of the dataset's private pool, for maps that block in Python. 0
            is tf.data's shared pool; "unbounded" is one thread per call in flight.
        max_intra_op_parallelism: threads inside one op of the map; 0 sets no limit.
        device_prefetch: batches copied to the GPU ahead of the step; 0 copies with the step.
        cache: whether a generator's elements are kept in memory after the first pass.
        reorder: whether a call of the map that is done may overtake one that began before it. The
            same elements then come in another order.
        as_written: whether a script's chain is left as it was written; all settings but the batch
            size are then the script's own.
        workers, use_multiprocessing, max_queue_size: settings of a `keras.utils.PyDataset`, with
            Keras's defaults.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(ge=1, le=MAX_BATCH_SIZE)
    prefetch_buffer: int | Literal["auto"] = Field(union_mode="left_to_right")
    map_parallelism: int | Literal["auto"] = Field(union_mode="left_to_right")
    generator_chunk: int = Field(default=1, ge=1, le=MAX_GENERATOR_CHUNK)
    vectorized_map: bool = False
    generator_workers: int = Field(default=0, ge=0, le=MAX_PROCESSES)
    thread_pool_size: int | Literal["unbounded"] = Field(default=0, union_mode="left_to_right")
    max_intra_op_parallelism: int = Field(default=0, ge=0, le=MAX_THREADS)
    device_prefetch: int = Field(default=0, ge=0, le=MAX_PREFETCH_BUFFER)
    cache: bool = False
    reorder: bool = False
    as_written: bool = False
    workers: int = Field(default=1, ge=0, le=MAX_PROCESSES)
    use_multiprocessing: bool = False
    max_queue_size: int = Field(default=10, ge=1, le=MAX_QUEUE)

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        for name, (low, high) in BOUNDS.items():
            _check_range(name, getattr(self, name), low, high)
        # A chain half on AUTOTUNE is neither what users write today nor a pinned configuration.
        if (self.prefetch_buffer == AUTO) != (self.map_parallelism == AUTO):
            raise ValueError('prefetch_buffer and map_parallelism must both be "auto", or neither')
        return self

    @property
    def is_autotune(self) -> bool:
        """Whether AUTOTUNE chooses the map's parallel calls and the prefetch buffer.

        Without structural settings this is what users write today, with tf.data's default options.
        With them it is AUTOTUNE on a chain that the search found.
        """
        return self.prefetch_buffer == AUTO

    @property
    def needs_options(self) -> bool:
        """Whether it needs `tf.data.Options`, even with AUTOTUNE."""
        threads = self.thread_pool_size not in (0, UNBOUNDED) or self.max_intra_op_parallelism > 0
        return threads or self.reorder

    @property
    def structure(self) -> dict[str, int | str]:
        """The structural settings that differ from the plain chain, by name."""
        return {
            name: getattr(self, name)
            for name in STRUCTURE
            if getattr(self, name) != type(self).model_fields[name].default
        }

    @property
    def buffer_size(self) -> int:
        """The argument for `Dataset.prefetch`, for users who build their own chain."""
        return _AUTOTUNE if self.prefetch_buffer == AUTO else int(self.prefetch_buffer)

    @property
    def num_parallel_calls(self) -> int | None:
        """The argument for `Dataset.map`, for users who build their own chain.

        None if `map_parallelism` is 1. num_parallel_calls=1 is not the sequential map: it runs one
        element ahead on another thread.
        """
        if self.map_parallelism == AUTO:
            return _AUTOTUNE
        return None if self.map_parallelism == 1 else int(self.map_parallelism)

    @classmethod
    def autotune(cls, batch_size: int, **own: int | bool) -> Self:
        """The AUTOTUNE baseline at `batch_size`; `own` has a PyDataset's original settings."""
        settings = {"prefetch_buffer": AUTO, "map_parallelism": AUTO, **own}
        return cls.model_validate({"batch_size": batch_size, **settings})

    @classmethod
    def written(cls, batch_size: int) -> Self:
        """A script's chain as it was written."""
        return cls(
            batch_size=batch_size, prefetch_buffer=AUTO, map_parallelism=AUTO, as_written=True
        )

    def handed_to_autotune(self) -> Self:
        """The same structure, with AUTOTUNE for the map's calls and the prefetch buffer."""
        return self.model_copy(update={"prefetch_buffer": AUTO, "map_parallelism": AUTO})

    @classmethod
    def no_prefetch(cls, batch_size: int) -> Self:
        """The baseline that runs nothing ahead: sequential map, no prefetch."""
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
        if self.as_written:
            return f"batch {self.batch_size}, as written"
        words = [f"batch {self.batch_size}", f"prefetch {self.prefetch_buffer}"]
        return ", ".join([*words, f"map {self.map_parallelism}", *self.extras])

    @property
    def extras(self) -> list[str]:
        """The settings beyond the basic three that differ from their defaults, in words."""
        found = {name: getattr(self, name) for name in SAID}
        fields = type(self).model_fields
        return [
            (SAID_OF_ONE if value == 1 else SAID).get(name, SAID[name]).format(value)
            for name, value in found.items()
            if value != fields[name].default
        ]


# The settings that change the plain chain of a generator.
STRUCTURE = (
    "generator_chunk",
    "vectorized_map",
    "generator_workers",
    "thread_pool_size",
    "max_intra_op_parallelism",
    "device_prefetch",
    "cache",
    "reorder",
)
# Short forms of the settings, because a run's name has little room.
SAID = {
    "generator_chunk": "chunk {}",
    "vectorized_map": "map on batches",
    "generator_workers": "{} processes",
    "thread_pool_size": "pool {}",
    "max_intra_op_parallelism": "intra-op {}",
    "device_prefetch": "{} on device",
    "cache": "cached",
    "reorder": "reordered",
    "workers": "{} workers",
    "use_multiprocessing": "in processes",
    "max_queue_size": "queue {}",
}
SAID_OF_ONE = {"generator_workers": "{} process"}


def _check_range(name: str, value: int | str, low: int, high: int) -> None:
    if isinstance(value, int) and not low <= value <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")


def one_line(error: ValidationError) -> str:
    """The findings of pydantic on one line, each as `field: message (got value)`."""
    findings = []
    for item in error.errors(include_url=False, include_context=False):
        place = ".".join(
            str(part) for part in item["loc"] if part not in ("int", "literal['auto']")
        )
        message = item["msg"].removeprefix("Value error, ")
        given = "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
        findings.append(f"{place}: {message}{given}" if place else message)
    return "; ".join(dict.fromkeys(findings))
