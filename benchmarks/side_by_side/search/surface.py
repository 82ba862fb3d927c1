"""A grid as a function: the rate of any configuration, with the noise of a trial."""

from __future__ import annotations

import math
import random
import statistics
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from benchmarks.journal import JournalError, read
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import Diagnosis, diagnose
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

# What another choice of a setting counts, in doublings of a range.
OTHER_CHOICE = 3.0


class Surface:
    """The rates of a pipeline's configurations, from the points of a grid.

    A point's rate is its ratio to the reference beside it, times the reference's median. A Gaussian
    process over the logarithms takes the noise out of it and gives the rates between the points.
    The best of 200 noisy points would be a lucky one.

    Attributes:
        info: the pipeline.
        options: the options of the studies whose space the grid covers.
        diagnosis: the diagnosis that the grid's axes were chosen from.
        space: the space that the grid covers.
        left_out: the axes that the diagnosis doesn't offer, which the grid doesn't have either.
        noise: standard deviation of the log of a trial's rate.
        best: the highest rate of a point without its noise, in examples/s.
    """

    def __init__(
        self,
        info: PipelineInfo,
        options: Options,
        diagnosis: Diagnosis,
        rates: Mapping[PipelineConfig, float],
        noise: float,
        cores: float,
    ) -> None:
        self.info = info
        self.options = options
        self.diagnosis = diagnosis
        offered = offer(info, options, diagnosis, cores)
        self.space: SearchSpace = offered.space
        self.left_out = offered.left_out
        places = np.array([self._place(config) for config in rates])
        logs = np.log(list(rates.values()))
        kernel = ConstantKernel() * Matern([3.0] * places.shape[1], (0.3, 100.0), nu=2.5)
        self._smooth = GaussianProcessRegressor(
            kernel + WhiteKernel(0.01, (1e-6, 0.3)), normalize_y=True, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # an axis that matters nothing
            self._smooth.fit(places, logs)
        smooth = self._smooth.predict(places)
        # Of the point's own noise or the reference's, the larger.
        self.noise = max(noise, float(np.std(logs - smooth)))
        self.best = float(np.exp(smooth.max()))
        self._known: dict[PipelineConfig, float] = {}

    def rate(self, config: PipelineConfig) -> float:
        """Examples/s without noise."""
        if config not in self._known:
            found = self._smooth.predict(np.array([self._place(config)]))
            self._known[config] = float(np.exp(found[0]))
        return self._known[config]

    def measured(self, config: PipelineConfig, rng: random.Random) -> float:
        """Examples/s as a trial measures them."""
        return self.rate(config) * math.exp(rng.gauss(0.0, self.noise))

    def _place(self, config: PipelineConfig) -> list[float]:
        place = [math.log2(config.batch_size)]
        for axis in self.space.axes:
            value = getattr(config, axis.name)
            if not axis.choices:
                place.append(math.log2(value))
                continue
            place += [OTHER_CHOICE * (value == choice) for choice in axis.choices]
        return place


def read_surface(path: Path, cores: float) -> Surface:
    """The surface of a grid's file.

    Raises:
        JournalError: the file isn't a grid's, or has no points or no diagnosis.
    """
    header, *lines = read(path) or [{}]
    found = {line["key"]: line for line in lines if line["part"] == "points"}
    references = [
        line["examples_per_s"]
        for key, line in sorted(found.items())
        if key.startswith("reference/") and line["examples_per_s"]
    ]
    if not references or not header.get("costs") or not header.get("info"):
        raise JournalError(f"{path} isn't a grid to replay: run benchmarks/grid.py anew")
    usual = statistics.median(references)
    rates = {
        PipelineConfig.model_validate(line["config"]): line["examples_per_s"] / beside * usual
        for line, beside in _with_references(found)
        if line["examples_per_s"]
    }
    pinned = header["pinned"]
    options = Options(batch_size=pinned["batch_size"], axes=pinned.get("axes", "all"))
    return Surface(
        PipelineInfo.model_validate(header["info"]),
        options,
        diagnose(StageCosts.model_validate(header["costs"]), cores),
        rates,
        noise_of(references),
        cores,
    )


def _with_references(found: Mapping[str, Any]) -> Iterator[tuple[Any, float]]:
    """Each point's line and the mean rate of the references before and after it."""
    keys = sorted(key for key in found if key.startswith("reference/"))
    for key, line in found.items():
        kind, _, number = key.partition("/")
        if kind != "point":
            continue
        after = bisect_left(keys, f"reference/{number}")
        beside = [found[one]["examples_per_s"] for one in keys[max(after - 1, 0) : after + 1]]
        around = [rate for rate in beside if rate]
        if around:
            yield line, statistics.fmean(around)


def noise_of(references: list[float]) -> float:
    """The noise of one trial, from the differences of consecutive ones of the same configuration.

    The host's slow drift cancels out.
    """
    steps = [math.log(after / before) for before, after in pairwise(references)]
    return statistics.stdev(steps) / math.sqrt(2.0) if len(steps) > 1 else 0.0
