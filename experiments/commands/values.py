"""The argument types of the command line: numbers within bounds, step times, sizes, precisions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from prefetch_tuning.experiments.settings import BatchSize, CheckTimeS, Margin
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import PRECISIONS

SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT])i?B$", re.IGNORECASE)
PERCENTAGE = re.compile(r"^(\d+(?:\.\d+)?)\s*%$")
DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*([smh])$")
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0}
UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}


def number(kind: Any) -> Callable[[str], Any]:
    """Makes an argument type for numbers of `kind`, like `Annotated[int, Field(ge=1)]`."""
    of, field = get_args(kind)
    bounds = {
        name: getattr(rule, name)
        for rule in field.metadata
        for name in ("gt", "ge", "le")
        if getattr(rule, name, None) is not None
    }
    checked = TypeAdapter(kind)

    def convert(text: str) -> Any:
        try:
            value = of(text)
        except ValueError:
            what = "a whole number" if of is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
        try:
            return checked.validate_python(value)
        except ValidationError:
            raise argparse.ArgumentTypeError(f"must be {_in_words(bounds)}, not {text}") from None

    return convert


def _in_words(bounds: Mapping[str, float]) -> str:
    if "ge" in bounds and "le" in bounds:
        return f"from {bounds['ge']} to {bounds['le']}"
    if "le" in bounds:
        return f"above {bounds['gt']} and at most {bounds['le']}"
    return f"above {bounds['gt']}" if "gt" in bounds else f"at least {bounds['ge']}"


def batch_sizes(text: str) -> tuple[int, ...]:
    """Converts batch sizes, like `32,64`."""
    return tuple(number(BatchSize)(part.strip()) for part in text.split(","))


def step_time(text: str) -> StepTime:
    """Converts the time of an emulated step, like `12ms` or `0.56ms/example`."""
    try:
        return StepTime.parse(text)
    except PipelineError as error:
        raise argparse.ArgumentTypeError(f"{error}") from None


def precision(text: str) -> str:
    """Checks the type that a mixed-precision model computes in."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(
            f"must be {' or '.join(PRECISIONS)}, not {text!r}; name pipelines before it"
        )
    return text


def memory_mib(text: str) -> float:
    """Converts a size with a unit (`512MiB`, `2GiB`) to MiB; `2GB` is also read as binary."""
    match = SIZE.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"must be a size like 512MiB or 2GiB, not {text!r}")
    return float(match[1]) * UNITS_MIB[match[2].upper()]


def margin(text: str) -> float:
    """Converts a percentage (`5%`) to a share.

    A number without a sign is refused, because `5` might mean five or five percent.
    """
    match = PERCENTAGE.match(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a percentage like 5%, not {text!r}")
    try:
        return TypeAdapter[float](Margin).validate_python(float(match[1]) / 100.0)
    except ValidationError:
        raise argparse.ArgumentTypeError(f"must be above 0% and at most 50%, not {text}") from None


def duration_s(text: str) -> float:
    """Converts a time with a unit (`90s`, `5m`, `1h`) to seconds."""
    match = DURATION.match(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"must be a time like 90s, 5m or 1h, not {text!r}")
    try:
        return TypeAdapter[float](CheckTimeS).validate_python(float(match[1]) * UNITS_S[match[2]])
    except ValidationError:
        raise argparse.ArgumentTypeError(f"must be above 0s and at most 24h, not {text}") from None
