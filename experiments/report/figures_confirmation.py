"""Draws the confirmation: every candidate with its interval, and the limit."""

from __future__ import annotations

import plotly.graph_objects as go

from prefetch_tuning.experiments.report.points import is_recommended
from prefetch_tuning.experiments.report.style import (
    BASELINE,
    LIMIT,
    RATE,
    RECOMMENDED,
    TUNED,
    Look,
    dots,
    figure,
    hover,
    label,
    rate_axis,
    whiskers,
)
from prefetch_tuning.experiments.report.text import between, memory, plural, rate, settings, share
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Limit
from prefetch_tuning.experiments.verdict.measurements import AS_WRITTEN, is_baseline
from prefetch_tuning.pipelines.config import PipelineConfig

# Height of a line of an axis's labels.
LINE_PX = 16


def confirmation(record: StudyRecord) -> list[go.Figure]:
    """The median rate of each candidate with its interval, and the common limit."""
    found = record.result.confirmation
    if not found:
        return []
    sizes = {c.config.batch_size for c in found}
    title = f"{RATE} at batch size {min(sizes):,}" if len(sizes) == 1 else RATE
    names = [c.candidate for c in found]
    labels = [_name(c.config, record, with_size=len(sizes) > 1) for c in found]
    # The rows are equally high, so the one with the most lines decides.
    lines = max(text.count("<br>") + 1 for text in labels)
    chart = figure(
        110 + max(60, LINE_PX * lines + 10) * len(found),
        xaxis=rate_axis(title),
        yaxis={
            "tickvals": names,
            "ticktext": labels,
            "categoryorder": "array",
            "categoryarray": names[::-1],
        },
        legend={"itemsizing": "constant"},  # the limit's tick is taller than a line of text
    )
    groups: dict[str, list[Confirmed]] = {"recommended": [], "tuned": [], "baseline": []}
    for candidate in found:
        groups[_group(candidate, record)].append(candidate)
    looks = (RECOMMENDED, TUNED, BASELINE)
    for (name, members), look in zip(groups.items(), looks, strict=True):
        if members:
            chart.add_trace(_medians(name, look, members, record))
    if record.result.limit is not None:
        chart.add_trace(_limit(record.result.limit, found))
    return [chart]


def _medians(name: str, look: Look, found: list[Confirmed], record: StudyRecord) -> go.Scatter:
    rates = [c.examples_per_s for c in found]
    texts = [
        hover(
            settings(c.config, record.info),
            f"median {rate(c.examples_per_s)} {RATE} over {plural(c.rounds, 'round')}",
            f"95% interval {between(c.ci)}",
            f"peak {memory(c.host_peak_mib, c.device_peak_mib)}",
        )
        for c in found
    ]
    intervals = whiskers(rates, [c.ci for c in found])
    return dots(name, look, rates, [c.candidate for c in found], texts, error_x=intervals)


def _limit(limit: Limit, found: list[Confirmed]) -> go.Scatter:
    words = f"limit {rate(limit.examples_per_s)} {RATE}, set by the {limit.binding}"
    texts = [
        hover(words, f"{share(c.fraction.share)} of it was reached" if c.fraction else "")
        for c in found
    ]
    names = [c.candidate for c in found]
    rates = [limit.examples_per_s] * len(found)
    trace = dots("limit", Look(LIMIT, "line-ns", 22), rates, names, texts)
    return trace.update(marker_line={"color": LIMIT, "width": 3})


def _name(config: PipelineConfig, record: StudyRecord, *, with_size: bool) -> str:
    """One setting per line, because a phone has no room for all on one."""
    size, *rest = settings(config, record.info).split(", ")
    return "<br>".join(label(line) for line in (*rest, *([size] if with_size else [])))


def _group(found: Confirmed, record: StudyRecord) -> str:
    if is_recommended(found.config, record):
        return "recommended"
    own = is_baseline(found.candidate) or found.candidate == AS_WRITTEN
    return "baseline" if own else "tuned"
