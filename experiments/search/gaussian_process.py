"""A Gaussian process over places in a search space, and what is read from it. Pure."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
# Standard deviations of the logarithm, at least and at most: of the prediction's error, and of the
# noise of a trial.
MISJUDGED, NOISE = (0.05, 2.0), (0.02, 0.2)
# Doublings after which one error tells little about another. There are too few trials to fit it.
REACH = 3.0


class Guess(NamedTuple):
    """Means and standard deviations of a logarithm, one for each configuration."""

    mean: Floats
    spread: Floats

    def log_gain(self, best: float) -> Floats:
        """Logarithm of the expected improvement over `best` (Jones, Schonlau and Welch, 1998)."""
        more = self.mean - best
        score = more / self.spread
        gain = more * norm.cdf(score) + self.spread * norm.pdf(score)
        return np.asarray(np.log(np.maximum(gain, 1e-300)))

    def log_chance_below(self, bounds: Floats) -> Floats:
        """Logarithm of the probability of being at most `bounds`."""
        return np.asarray(norm.logcdf((bounds - self.mean) / self.spread))


def fitted(
    places: Sequence[list[float]], values: Floats
) -> Callable[[Sequence[list[float]]], Guess]:
    """Fits a Gaussian process; returns what it expects, without the noise of a trial."""
    # Importing it takes longer than starting a command may.
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: PLC0415
    from sklearn.gaussian_process.kernels import (  # noqa: PLC0415
        ConstantKernel,
        Matern,
        WhiteKernel,
    )

    usual = float(np.median(values))
    kernel = ConstantKernel(0.1, _squared(MISJUDGED)) * Matern(REACH, "fixed", nu=2.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.0025, _squared(NOISE)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bounds are as good as any value
        process.fit(np.array(places), values - usual)
    noise: Any = process.kernel_.k2.noise_level

    def expected(others: Sequence[list[float]]) -> Guess:
        mean, spread = process.predict(np.array(others), return_std=True)
        return Guess(mean + usual, np.sqrt(np.maximum(spread**2 - noise, 1e-8)))

    return expected


def _squared(bounds: tuple[float, float]) -> tuple[float, float]:
    return bounds[0] ** 2, bounds[1] ** 2
