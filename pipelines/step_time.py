"""Parses and formats the time of an emulated training step."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from prefetch_tuning.pipelines.source import PipelineError

DECIMALS = 9
NUMBER = rf"\d{{1,6}}(?:\.\d{{1,{DECIMALS}}})?"
FORM = re.compile(
    rf"(?:(?P<fixed>{NUMBER}) ?(?P<unit>ms|s))?"
    rf"(?:(?P<plus>\+)?(?P<each>{NUMBER})ms/example)?"
    r"(?:@(?P<accelerator>[a-z0-9][a-z0-9-]*))?"
)
MOST_MS = 60_000.0
# Decimals of a measured time in ms.
FITTED_DECIMALS = 6


class StepTime(BaseModel):
    """The compute time of a step: a fixed part and a part for each example of the batch.

    Attributes:
        fixed_ms: milliseconds per step.
        per_example_ms: milliseconds per example.
        accelerator: the profile that it comes from; None for a time that a user gave.
    """

    model_config = ConfigDict(frozen=True)

    fixed_ms: float = Field(default=0.0, ge=0.0, le=MOST_MS)
    per_example_ms: float = Field(default=0.0, ge=0.0, le=MOST_MS)
    accelerator: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `12ms`, `0.56ms/example` or `4ms+0.1ms/example`.

        Raises:
            PipelineError: the text doesn't have one of these forms, or the step takes no time.
        """
        match = FORM.fullmatch(text.strip())
        if match is not None:
            fixed, each = match["fixed"], match["each"]
            joined = (match["plus"] is not None) == (fixed is not None and each is not None)
            fixed_ms = float(fixed or 0.0) * (1e3 if match["unit"] == "s" else 1.0)
            times = {"fixed_ms": fixed_ms, "per_example_ms": float(each or 0.0)}
            if joined and 0.0 < sum(times.values()) <= MOST_MS:
                return cls(**times, accelerator=match["accelerator"])
        raise PipelineError(
            f"{text!r} isn't a step time; give one like 12ms, 0.56ms/example or 4ms+0.1ms/example"
        )

    @classmethod
    def fitted(cls, seconds: Mapping[int, float]) -> Self:
        """Fits a time to measured steps, by their relative errors.

        Args:
            seconds: the seconds of a step by batch size; a single one gives a fixed time.
        """
        import numpy as np  # noqa: PLC0415 - a fifth of the time of `--help`

        sizes = np.array(list(seconds), float)
        times = np.array(list(seconds.values()))
        fixed, each = 0.0, 0.0
        if len(seconds) > 1:
            # Least squares of the relative errors; neither part can be negative.
            both = np.linalg.lstsq(
                np.stack([1.0 / times, sizes / times], axis=1), np.ones(len(times)), rcond=None
            )[0]
            fixed, each = (float(part) for part in both)
        if fixed <= 0.0 < each:
            fixed, each = 0.0, float(np.sum(sizes / times) / np.sum((sizes / times) ** 2))
        if each <= 0.0:
            fixed, each = float(np.sum(1.0 / times) / np.sum(1.0 / times**2)), 0.0
        return cls(
            fixed_ms=round(1e3 * fixed, FITTED_DECIMALS),
            per_example_ms=round(1e3 * each, FITTED_DECIMALS),
        )

    def __str__(self) -> str:
        parts = []
        if self.fixed_ms:
            parts.append(f"{_shown(self.fixed_ms)}ms")
        if self.per_example_ms:
            parts.append(f"{_shown(self.per_example_ms)}ms/example")
        return "+".join(parts) + (f"@{self.accelerator}" if self.accelerator else "")

    @property
    def in_words(self) -> str:
        """The step in words."""
        time = str(self).partition("@")[0].replace("ms", " ms").replace("+", " + ")
        on = f" on {self.accelerator}" if self.accelerator else ""
        return f"an emulated step{on}: {time.replace('/', ' per ')}"

    def seconds(self, examples: int) -> float:
        """Seconds of a step on this many examples."""
        return (self.fixed_ms + self.per_example_ms * examples) / 1e3


def _shown(ms: float) -> str:
    """As many decimals as `FORM` accepts, and never an exponent, which it doesn't accept."""
    return f"{ms:.{DECIMALS}f}".rstrip("0").rstrip(".")
