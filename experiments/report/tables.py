"""Builds the tables of a report as rows of text, the same for HTML and Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prefetch_tuning.experiments.report.points import best_by_batch_size, pareto, points
from prefetch_tuning.experiments.report.target_words import cores_to_feed, is_open
from prefetch_tuning.experiments.report.text import (
    between,
    counts,
    mib,
    plural,
    rate,
    settings,
    share,
    share_with_interval,
    times,
)
from prefetch_tuning.experiments.search.diagnosis import SHOWN, stages
from prefetch_tuning.experiments.storage.results import (
    MeasuredConfig,
    StudyRecord,
    StudyResult,
    TrialRow,
)
from prefetch_tuning.experiments.verdict.confirmed import Confirmed

NOISE_AND_COST = ("rounds", "CV", "MiB", "first batch", "of limit")


@dataclass(frozen=True)
class Table:
    """A table: its headings, the alignment of its columns, and its rows of text.

    Attributes:
        align: one letter per column: `l` left, `r` right, `w` left and wrapped on a narrow page.
    """

    headings: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]


def confirmation_table(record: StudyRecord) -> Table:
    """Each candidate of the confirmation beside AUTOTUNE or the target, fastest first."""
    if record.result.target is not None:
        return _target_table(record)
    headings = ["configuration", "examples/s", "95% interval", "over AUTOTUNE", "verdict"]
    most = max((c.rounds for c in record.result.confirmation), default=0)
    rows = [
        (
            settings(c.config, record.info),
            rate(c.examples_per_s),
            between(c.ci),
            *_against_autotune(c, most),
            *_noise_and_cost(c),
        )
        for c in record.result.confirmation
    ]
    return Table([*headings, *NOISE_AND_COST], "wrrrwrrrrr", rows)


def _target_table(record: StudyRecord) -> Table:
    """Each candidate with its utilisation and the cores that feeding the step would take."""
    headings = ["configuration", "examples/s", "busy", "target", "cores"]
    most = max((c.rounds for c in record.result.confirmation), default=0)
    rows = [
        (
            settings(c.config, record.info),
            rate(c.examples_per_s),
            share_with_interval(c.utilisation) if c.utilisation else "",
            _reaches(c, most, record.result),
            f"{cores_to_feed(c, record.result):.2f}",
            *_noise_and_cost(c),
        )
        for c in record.result.confirmation
    ]
    return Table([*headings, *NOISE_AND_COST], "wrrwrrrrrr", rows)


def _reaches(found: Confirmed, rounds: int, result: StudyResult) -> str:
    if not found.same_data:
        return "other data"
    if found.reaches:
        return "reached"
    if found.rounds < rounds:
        return "left early"
    return "open" if is_open(found, result) else "missed"


def _noise_and_cost(found: Confirmed) -> tuple[str, ...]:
    """The cells under `NOISE_AND_COST`."""
    return (
        str(found.rounds),
        "" if found.cv is None else share(found.cv, 1),
        mib(found.host_peak_mib),
        f"{found.first_batch_s:.2f} s",
        "" if found.fraction is None else share(found.fraction.share),
    )


def pareto_table(record: StudyRecord) -> Table:
    """The configurations on the Pareto front of memory and rate, by rising memory."""
    rows = [
        (
            mib(point.reached.host_peak_mib),
            rate(point.reached.examples_per_s),
            settings(point.reached.config, record.info),
            point.source,
        )
        for point in pareto(points(record))
    ]
    return Table(("peak MiB", "examples/s", "configuration", "measured"), "rrww", rows)


def stages_table(record: StudyRecord) -> Table:
    """The cost of each stage, in microseconds per example."""
    diagnosis = record.result.diagnosis
    rows = [
        (SHOWN.get(name, name), f"{cost.wall_s * 1e6:,.1f}", f"{cost.cpu_s * 1e6:,.1f}")
        for name, cost in (stages(diagnosis.costs) if diagnosis else {}).items()
    ]
    return Table(("stage", "wall, µs/example", "CPU, µs/example"), "lrr", rows)


def batch_sizes_table(record: StudyRecord) -> Table:
    """The best configuration for each batch size."""
    rows = [
        (
            f"{point.reached.config.batch_size:,}",
            str(point.reached.config.prefetch_buffer),
            str(point.reached.config.map_parallelism) if record.info.has_transform else "none",
            rate(point.reached.examples_per_s),
            between(point.reached.ci),
            mib(point.reached.host_peak_mib),
            point.source,
        )
        for point in best_by_batch_size(record)
    ]
    headings = ("batch", "prefetch", "map", "examples/s", "95% interval", "peak MiB", "measured")
    return Table(headings, "rrrrrrl", rows)


def axes_table(record: StudyRecord) -> Table:
    """The structural axes that were not searched, each with its reason."""
    return Table(("not searched", "reason"), "lw", list(record.left_out.items()))


def trials_table(record: StudyRecord) -> Table:
    """Every trial that was not interrupted."""
    rows = [
        (
            str(trial.number),
            settings(trial.config, record.info),
            trial.state + (" (warm start)" if trial.warm_start else ""),
            rate(trial.measured.examples_per_s) if trial.measured else "",
            between(trial.measured.ci) if trial.measured else "",
            rate(trial.predicted_examples_per_s) if trial.predicted_examples_per_s else "",
            mib(trial.measured.host_peak_mib) if trial.measured else "",
        )
        for trial in record.trials
    ]
    headings = ("trial", "configuration", "state", "examples/s", "95% interval", "predicted")
    return Table((*headings, "peak MiB"), "rwwrrrr", rows)


def importance_table(record: StudyRecord) -> Table:
    """The share of the variation between trials that each axis explains, largest first."""
    ranked = sorted(record.importance.items(), key=lambda item: -item[1])
    rows = [(axis, share(explained)) for axis, explained in ranked]
    return Table(("axis", "share of the variation"), "lr", rows)


def failures_table(record: StudyRecord) -> Table:
    """The trials without a full measurement and the reason; failures before early stops."""
    order = ("failed", "infeasible", "pruned")
    ended = sorted(
        (trial for trial in record.trials if trial.state in order),
        key=lambda trial: (order.index(trial.state), trial.number),
    )
    rows = [
        (str(t.number), settings(t.config, record.info), t.state, *_why(t, t.measured))
        for t in ended
    ]
    return Table(("trial", "configuration", "state", "kind", "detail"), "rwllw", rows)


def environment_table(record: StudyRecord) -> Table:
    """The machine, the versions and the study that the results come from."""
    return Table(("item", "value"), "lw", list(_environment(record)))


def _environment(record: StudyRecord) -> Iterator[tuple[str, str]]:
    result, info = record.result, record.info
    yield "pipeline", f"{info.name} ({info.target})"
    yield "element", info.element
    yield "training step", info.stand_in or "of your Keras model"
    yield "study", result.study
    yield "seed", str(record.seed)
    yield "host", record.host
    yield "device", info.device
    yield from record.versions.items()
    yield "MLflow run", result.mlflow_run_id
    yield "trials", counts(result)
    rounds = max((c.rounds for c in result.confirmation), default=0)
    yield "confirmation", plural(rounds, "round") if rounds else "none"
    yield "time", f"{result.wall_s:,.0f} s, of which {result.measured_s:,.0f} s measuring"


def _against_autotune(found: Confirmed, rounds: int) -> tuple[str, str]:
    """The ratio and its verdict; `rounds` is the number of rounds of the confirmation."""
    if not found.same_data:
        return "", "other data"
    if found.ratio is None:
        return "", ""
    if not math.isfinite(found.ratio.ci.high):
        return f"{times(found.ratio)} (no interval)", ""
    said = "left early" if found.rounds < rounds else found.ratio.verdict
    return times(found.ratio), said


def _why(trial: TrialRow, measured: MeasuredConfig | None) -> tuple[str, str]:
    if trial.failure is not None:
        return trial.failure.kind, trial.failure.detail
    if trial.state == "infeasible" and measured is not None:
        return "memory limit", f"its peak of {mib(measured.host_peak_mib)} MiB is over the limit"
    if trial.state == "pruned":
        reached = f"{rate(measured.examples_per_s)} examples/s is " if measured else ""
        return "stopped early", f"{reached}clearly less than the rate to beat"
    return "", ""
