"""Draws the search: each axis, the trials in order, and how much each axis mattered."""

from __future__ import annotations

import math
from itertools import accumulate

import plotly.graph_objects as go

from prefetch_tuning.experiments.report.style import (
    BLUE,
    GREY,
    INK,
    LIMIT,
    OVER_LIMIT,
    PURPLE,
    RATE,
    RECOMMENDED,
    TUNED,
    Look,
    bars,
    dots,
    figure,
    hover,
    label,
    rate_axis,
)
from prefetch_tuning.experiments.report.text import mib, rate, settings, share
from prefetch_tuning.experiments.storage.results import MeasuredConfig, State, StudyRecord, TrialRow

AXES = {
    "batch_size": "batch_size, examples",
    "prefetch_buffer": "prefetch_buffer, batches",
    "map_parallelism": "map_parallelism, calls",
    "generator_chunk": "generator_chunk, elements",
    "generator_workers": "generator_workers, processes",
    "workers": "workers",
    "max_queue_size": "max_queue_size, batches",
}
# Each state with its name in the legend and its look, in the order of the legend.
STATES: dict[State, tuple[str, Look]] = {
    "complete": ("complete", TUNED),
    "pruned": ("pruned", Look(GREY, "circle-open")),
    "infeasible": ("over limit", OVER_LIMIT),
    "failed": ("failed", Look(INK, "x")),
}


def axes(record: StudyRecord) -> list[go.Figure]:
    """Rate over each searched axis that varies: one small figure each, all to the same scale."""
    measured = [(t, t.measured) for t in record.trials if t.measured]
    if not any(trial.state == "complete" for trial, _ in measured):
        return []
    top = 1.08 * max(reached.examples_per_s for _, reached in measured)
    charts = []
    for name in AXES:
        # Zero has no place on a log scale, and the search does not try it.
        drawn = [(t, m) for t, m in measured if int(getattr(t.config, name)) > 0]
        if len({getattr(t.config, name) for t, _ in drawn}) > 1:
            charts.append(_axis(name, top, drawn, record))
    return charts


def trials(record: StudyRecord) -> list[go.Figure]:
    """The rate of each trial in order, the best so far, the predictions and the limit."""
    if not any(t.measured for t in record.trials):
        return []
    xaxis = {"title": {"text": "trial number"}, "tickformat": ",", "zeroline": False, "nticks": 10}
    chart = figure(460, xaxis=xaxis, yaxis=rate_axis(rangemode="tozero"))
    for trace in (_best_so_far(record), _limit(record), _predictions(record), _warm_start(record)):
        if trace is not None:
            chart.add_trace(trace)
    for state, (name, look) in STATES.items():
        members = [t for t in record.trials if t.state == state]
        if members:
            x, y = [t.number for t in members], [_height(t) for t in members]
            texts = [_words(t, record) for t in members]
            chart.add_trace(dots(name, look, x, y, texts, cliponaxis=False))
    return [chart]


def importance(record: StudyRecord) -> list[go.Figure]:
    """The share of the variation that each axis explains."""
    ranked = sorted(record.importance.items(), key=lambda item: -item[1])
    if not ranked:
        return []
    what = RATE if record.result.target is None else "cores"
    title = {"text": f"share of the variation in {what}"}
    xaxis = {"title": title, "ticksuffix": "%", "range": [0, 102], "dtick": 20}
    chart = figure(90 + 44 * len(ranked), xaxis=xaxis, yaxis={"autorange": "reversed"}, bargap=0.4)
    values = {label(axis): 100.0 * explained for axis, explained in ranked}
    texts = [share(explained) for _, explained in ranked]
    chart.add_trace(bars("importance", BLUE, values, texts, showlegend=False))
    return [chart]


def _axis(
    name: str, top: float, measured: list[tuple[TrialRow, MeasuredConfig]], record: StudyRecord
) -> go.Figure:
    values = [int(getattr(t.config, name)) for t, _ in measured]
    chart = figure(300, xaxis=_log2_axis(name, values), yaxis=rate_axis(range=[0, top]))
    chart.update_layout(showlegend=False)
    for state, (words, look) in STATES.items():
        members = [(t, m) for t, m in measured if t.state == state]
        if members:
            x = [getattr(t.config, name) for t, _ in members]
            y = [m.examples_per_s for _, m in members]
            chart.add_trace(dots(words, look, x, y, [_words(t, record) for t, _ in members]))
    chosen = record.result.recommended
    if chosen is not None and isinstance(value := getattr(chosen.config, name), int) and value > 0:
        reached = f"{rate(chosen.examples_per_s)} {RATE} over all rounds"
        text = hover("recommended", settings(chosen.config, record.info), reached)
        chart.add_trace(dots("recommended", RECOMMENDED, [value], [chosen.examples_per_s], [text]))
    return chart


def _log2_axis(name: str, values: list[int]) -> dict[str, object]:
    """A log axis with ticks at powers of two and some space at both ends."""
    low, high = math.log2(min(values)), math.log2(max(values))
    ticks = [2**power for power in range(math.floor(low), math.ceil(high) + 1)]
    room = 0.12 * (high - low)
    return {
        "type": "log",
        "title": {"text": AXES[name]},
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
        "range": [(low - room) * math.log10(2), (high + room) * math.log10(2)],
        "tickangle": 0,
    }


def _best_so_far(record: StudyRecord) -> go.Scatter | None:
    complete = [
        (t.number, t.measured.examples_per_s)
        for t in record.trials
        if t.measured and t.state == "complete"
    ]
    if not complete:
        return None
    return go.Scatter(
        x=[number for number, _ in complete],
        y=list(accumulate((reached for _, reached in complete), max)),
        mode="lines",
        name="fastest so far",
        line={"color": BLUE, "width": 1.5, "shape": "hv"},
        hoverinfo="skip",
    )


def _limit(record: StudyRecord) -> go.Scatter | None:
    limit = record.result.limit
    if limit is None:
        return None
    numbers = [t.number for t in record.trials]
    # It is that of the confirmation's batch size; trials at another one may be above it.
    size = next((c.config.batch_size for c in record.result.confirmation), None)
    several = size is not None and len({t.config.batch_size for t in record.trials}) > 1
    return go.Scatter(
        x=[min(numbers) - 0.5, max(numbers) + 0.5],
        y=[limit.examples_per_s] * 2,
        mode="lines",
        name=f"limit at batch {size}" if several else "limit",
        line={"color": LIMIT, "width": 2, "dash": "dash"},
        hovertext=hover(f"limit {rate(limit.examples_per_s)} {RATE}"),
        hoverinfo="text",
    )


def _predictions(record: StudyRecord) -> go.Scatter | None:
    predicted = {
        t.number: t.predicted_examples_per_s for t in record.trials if t.predicted_examples_per_s
    }
    if not predicted:
        return None
    texts = [hover(f"trial {n}", f"predicted {rate(r)} {RATE}") for n, r in predicted.items()]
    look = Look(PURPLE, "line-ew", 9)
    trace = dots("predicted", look, list(predicted), list(predicted.values()), texts)
    return trace.update(marker_line={"color": PURPLE, "width": 2})


def _warm_start(record: StudyRecord) -> go.Scatter | None:
    """Rings around the trials that the prediction chose."""
    warm = [t for t in record.trials if t.warm_start]
    if not warm:
        return None
    look = Look(PURPLE, "circle-open", 17)
    x, y = [t.number for t in warm], [_height(t) for t in warm]
    return dots("warm start", look, x, y, [_words(t, record) for t in warm])


def _height(trial: TrialRow) -> float:
    """The trial's rate; 0, on the axis, if it has no measurement."""
    return trial.measured.examples_per_s if trial.measured else 0.0


def _words(trial: TrialRow, record: StudyRecord) -> str:
    found = [f"trial {trial.number}, {trial.state}", settings(trial.config, record.info)]
    if trial.measured:
        found.append(f"{rate(trial.measured.examples_per_s)} {RATE}")
        found.append(f"peak {mib(trial.measured.host_peak_mib)} MiB")
    if trial.failure:
        found.append(f"{trial.failure.kind}: {trial.failure.detail[:60]}")
    return hover(*found)
