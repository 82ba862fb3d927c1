"""Simulates checks of `prefetch-tune check`: how often they err, and how many rounds they need.

Prints the table of docs/check.md. Run from the checkout: .venv/bin/python -m benchmarks.check_power
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from prefetch_tuning.experiments.verdict.equivalence import LOOKS, side_of

MARGIN = 0.05
# Coefficients of variation of a single measurement of 1.4 s on small shared hosts.
NOISES = (0.03, 0.06, 0.10)
CHECKS = 5_000
# About what five minutes are enough for.
FORTY = LOOKS[4]
Values = NDArray[np.float64]


def simulated(slowdown: float, cv: float, checks: int = CHECKS, seed: int = 0) -> Values:
    """Log ratios of many checks, one row each: both sides have log-normal noise of this CV."""
    rng = np.random.default_rng(seed)
    sd = math.sqrt(2.0 * math.log1p(cv**2))
    return math.log1p(-slowdown) + sd * rng.standard_normal((checks, LOOKS[-1]))


def disturbed(values: Values, seed: int = 1) -> Values:
    """The same, with a round in twenty in which one side reached only 0.6 of its rate."""
    rng = np.random.default_rng(seed)
    side = rng.choice((-1.0, 1.0), values.shape)
    return values + np.where(rng.random(values.shape) < 0.05, side * math.log(0.6), 0.0)


class Ends:
    """How each check ends, with looks as `prefetch-tune check` has them.

    Attributes:
        sides: 1 for not slower (exit code 0), -1 for slower (3), 0 for undecided (4).
        rounds: the number of rounds at which each check ended.
    """

    def __init__(self, values: Values, margin: float = MARGIN) -> None:
        self.sides = np.zeros(len(values), np.int8)
        self.rounds = np.full(len(values), LOOKS[-1])
        for look in LOOKS:
            found = side_of(values[:, :look], math.log1p(-margin))
            new = (self.sides == 0) & (found != 0)
            self.sides[new], self.rounds[new] = found[new], look

    def share(self, side: int, most: int = LOOKS[-1]) -> float:
        """The share of checks that end on this side within `most` rounds."""
        return float(np.mean((self.sides == side) & (self.rounds <= most)))

    @property
    def enough(self) -> int:
        """The rounds within which 19 of 20 checks end."""
        return int(np.quantile(self.rounds, 0.95))


def row(cv: float, *, disturb: bool) -> list[str]:
    """A row of the table: shares that end within forty rounds, and the rounds that are enough."""
    equal, ten, fifteen = (
        Ends(disturbed(simulated(slowdown, cv)) if disturb else simulated(slowdown, cv))
        for slowdown in (0.0, 0.10, 0.15)
    )
    shares = [
        *(equal.share(1, FORTY), equal.share(-1, FORTY)),
        *(ten.share(-1, FORTY), ten.share(1, FORTY)),
        fifteen.share(-1, FORTY),
    ]
    noise = f"{cv:.0%}, disturbed" if disturb else f"{cv:.0%}"
    return [noise, *(f"{share:.1%}" for share in shares), str(equal.enough), str(ten.enough)]


def main() -> None:
    """Prints the table."""
    for disturb in (False, True):
        for cv in NOISES:
            print(f"| {' | '.join(row(cv, disturb=disturb))} |")


if __name__ == "__main__":
    main()
