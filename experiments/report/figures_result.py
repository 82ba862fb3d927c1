"""Draws the results: throughput and memory, stage costs, and each batch size."""

from __future__ import annotations

import plotly.graph_objects as go

from prefetch_tuning.experiments.report.points import (
    Point,
    best_by_batch_size,
    is_recommended,
    pareto,
    points,
)
from prefetch_tuning.experiments.report.style import (
    BASELINE,
    BLUE,
    INK,
    ONE_TRIAL,
    OVER_LIMIT,
    PALE_BLUE,
    RATE,
    RECOMMENDED,
    TUNED,
    Look,
    bars,
    dots,
    figure,
    hover,
    rate_axis,
    whiskers,
)
from prefetch_tuning.experiments.report.text import between, mib, rate, settings
from prefetch_tuning.experiments.search.diagnosis import SHOWN, StageName, stages
from prefetch_tuning.experiments.storage.results import StudyRecord

STAGES: dict[StageName, str] = {
    "generator": "generator",
    "from_generator": "handing over to tf.data",
    "map": "map",
    "batch": "batch",
    "device_copy": SHOWN["device_copy"],
    "step": "training step",
}


def throughput_and_memory(record: StudyRecord) -> list[go.Figure]:
    """Rate over peak host memory, with the Pareto front of both."""
    measured = points(record)
    if not measured:
        return []
    xaxis = {"title": {"text": "peak host memory, MiB"}, "tickformat": ",", "nticks": 8}
    chart = figure(420, xaxis=xaxis, yaxis=rate_axis())
    front = pareto(measured)
    chart.add_trace(
        go.Scatter(
            x=[p.reached.host_peak_mib for p in front],
            y=[p.reached.examples_per_s for p in front],
            mode="lines",
            line={"color": INK, "width": 1.5, "shape": "hv", "dash": "dot"},
            name="Pareto front",
            hoverinfo="skip",
        )
    )
    groups: dict[str, tuple[Look, list[Point]]] = {
        "one trial": (ONE_TRIAL, [p for p in measured if p.fits and not p.confirmed]),
        "over limit": (OVER_LIMIT, [p for p in measured if not p.fits]),
        "baseline": (BASELINE, [p for p in measured if not p.tuned]),
        "confirmed": (TUNED, [p for p in measured if p.confirmed and p.tuned]),
        "recommended": (
            RECOMMENDED,
            [p for p in measured if is_recommended(p.reached.config, record)],
        ),
    }
    for name, (look, members) in groups.items():
        if members:
            x, y = (
                [p.reached.host_peak_mib for p in members],
                [p.reached.examples_per_s for p in members],
            )
            chart.add_trace(dots(name, look, x, y, [_words(p, record) for p in members]))
    return [chart]


def stage_costs(record: StudyRecord) -> list[go.Figure]:
    """Wall and CPU time per example of each stage; the bottleneck in bold."""
    diagnosis = record.result.diagnosis
    if diagnosis is None:
        return []
    costs = {STAGES[name]: cost for name, cost in stages(diagnosis.costs).items()}
    limiting = STAGES[diagnosis.stage]
    chart = figure(
        110 + 56 * len(costs),
        xaxis={"title": {"text": "µs per example"}, "tickformat": ",", "nticks": 8},
        yaxis={
            "tickvals": list(costs),
            "ticktext": [f"<b>{name}</b>" if name == limiting else name for name in costs],
            "autorange": "reversed",
        },
        barmode="group",
        bargap=0.3,
        bargroupgap=0.05,
    )
    for name, colour, values in (
        ("wall time", BLUE, {name: 1e6 * cost.wall_s for name, cost in costs.items()}),
        ("CPU time", PALE_BLUE, {name: 1e6 * cost.cpu_s for name, cost in costs.items()}),
    ):
        texts = [f"{value:,.1f} µs" for value in values.values()]
        chart.add_trace(bars(name, colour, values, texts))
    return [chart]


def batch_sizes(record: StudyRecord) -> list[go.Figure]:
    """The best rate at each batch size; paler if it comes from a single trial."""
    best = best_by_batch_size(record)
    if not best:
        return []
    rates = [p.reached.examples_per_s for p in best]
    xaxis = {"title": {"text": "batch size, examples"}, "type": "category"}
    chart = figure(320, xaxis=xaxis, yaxis=rate_axis(), bargap=0.45)
    confirmed = {True: TUNED.colour, False: ONE_TRIAL.colour}
    chart.add_trace(
        go.Bar(
            x=[f"{p.reached.config.batch_size:,}" for p in best],
            y=rates,
            marker={
                "color": [
                    RECOMMENDED.colour
                    if is_recommended(p.reached.config, record)
                    else confirmed[p.confirmed]
                    for p in best
                ]
            },
            error_y=whiskers(rates, [p.reached.ci for p in best]),
            hovertext=[_words(p, record) for p in best],
            hoverinfo="text",
            showlegend=False,
        )
    )
    return [chart]


def _words(point: Point, record: StudyRecord) -> str:
    return hover(
        settings(point.reached.config, record.info),
        f"{rate(point.reached.examples_per_s)} {RATE}, 95% interval {between(point.reached.ci)}",
        f"peak {mib(point.reached.host_peak_mib)} MiB; {point.source}",
    )
