"""Collects every measured configuration of a study as a point of rate and memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prefetch_tuning.experiments.report.text import plural
from prefetch_tuning.experiments.storage.results import (
    MeasuredConfig,
    State,
    StudyRecord,
    TrialRow,
)
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.measurements import AS_WRITTEN, Reached, is_baseline
from prefetch_tuning.pipelines.config import PipelineConfig


@dataclass(frozen=True)
class Point:
    """A configuration with its rate and memory, from the confirmation or from a single trial.

    Attributes:
        reached: the rate with its interval, and the memory.
        source: where the numbers come from, in words.
        confirmed: the numbers come from the confirmation.
        tuned: False for a baseline.
        complete: False if the trial was stopped early.
        fits: False if it is over the memory limit.
    """

    reached: Reached
    source: str
    confirmed: bool
    tuned: bool = True
    complete: bool = True
    fits: bool = True


def points(record: StudyRecord) -> list[Point]:
    """Each completely measured configuration once; the confirmation replaces its trial.

    Those that read other data are left out, because their rates mean nothing.
    """
    confirmed = [_of_rounds(c) for c in record.result.confirmation if c.same_data]
    known = {c.config for c in record.result.confirmation}
    trials = _trials(record, "complete", "infeasible")
    return confirmed + [point for point in trials if point.reached.config not in known]


def pareto(measured: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both memory and rate, by rising memory."""
    front: list[Point] = []
    fitting = [point for point in measured if point.fits]
    for point in sorted(
        fitting, key=lambda p: (p.reached.host_peak_mib, -p.reached.examples_per_s)
    ):
        if not front or point.reached.examples_per_s > front[-1].reached.examples_per_s:
            front.append(point)
    return front


def best_by_batch_size(record: StudyRecord) -> list[Point]:
    """The fastest tuned configuration of each batch size; confirmed ones come before trials.

    A trial that was stopped early, because one at another batch size was clearly faster, counts
    only if its batch size has nothing else.
    """
    best: dict[int, Point] = {}
    for point in points(record) + _trials(record, "pruned"):
        size = point.reached.config.batch_size
        if not (point.tuned and point.fits):
            continue
        if size not in best or _rank(point) > _rank(best[size]):
            best[size] = point
    return [best[size] for size in sorted(best)]


def _trials(record: StudyRecord, *states: State) -> list[Point]:
    """The trials in these states whose configurations weren't excluded for their data."""
    return [
        _of_trial(trial, trial.measured)
        for trial in record.trials
        if trial.measured
        and trial.state in states
        and str(trial.config) not in record.result.other_data
    ]


def is_recommended(config: PipelineConfig, record: StudyRecord) -> bool:
    """Whether this is the configuration to use."""
    recommended = record.result.recommended
    return recommended is not None and recommended.config == config


def _of_rounds(found: Confirmed) -> Point:
    return Point(
        found,
        plural(found.rounds, "round"),
        confirmed=True,
        tuned=not (is_baseline(found.candidate) or found.candidate == AS_WRITTEN),
    )


def _of_trial(trial: TrialRow, measured: MeasuredConfig) -> Point:
    how = "stopped early" if trial.state == "pruned" else "unconfirmed"
    return Point(
        measured,
        f"trial {trial.number}, {how}",
        confirmed=False,
        complete=trial.state != "pruned",
        fits=trial.state != "infeasible",
    )


def _rank(point: Point) -> tuple[bool, bool, float]:
    return point.confirmed, point.complete, point.reached.examples_per_s
