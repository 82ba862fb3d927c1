"""The types of values on the command line: numbers in bounds, times, sizes, precisions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

from prefetch_tuning.pipelines.target import PRECISIONS

SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT])i?B$", re.IGNORECASE)
UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
TIME = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s)$")
TIME_UNITS_MS = {"ms": 1.0, "s": 1_000.0}
MAX_STEP_MS = 10_000.0
N = TypeVar("N", int, float)


def number(
    kind: type[N], low: N, high: N | None = None, *, above: bool = False
) -> Callable[[str], N]:
    """An argument type: a number from `low` to `high`, or greater than `low` where `above`."""

    def convert(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
        bound = f"above {low:g}" if above else f"at least {low:g}"
        if high is not None:
            bound = f"from {low} to {high}"
        # Written so that NaN fails, too.
        inside = (value > low if above else value >= low) and (high is None or value <= high)
        if not inside:
            raise argparse.ArgumentTypeError(f"must be {bound}, not {text}")
        return value

    return convert


def milliseconds(text: str) -> float:
    """An argument type: a time with a unit (`5ms`, `0.2s`) in milliseconds."""
    match = TIME.match(text.strip())
    if match is None or not 0 < float(match[1]) * TIME_UNITS_MS[match[2]] <= MAX_STEP_MS:
        raise argparse.ArgumentTypeError(f"must be a time like 5ms, up to 10s, not {text!r}")
    return float(match[1]) * TIME_UNITS_MS[match[2]]


def precision(text: str) -> str:
    """An argument type: what a mixed precision computes in."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(
            f"must be {' or '.join(PRECISIONS)}, not {text!r}; pipelines go before it"
        )
    return text


def memory_mib(text: str) -> float:
    """An argument type: a size with a unit (`512MiB`, `2GiB`, also `2GB`, as binary) in MiB."""
    match = SIZE.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"must be a size like 512MiB or 2GiB, not {text!r}")
    return float(match[1]) * UNITS_MIB[match[2].upper()]
