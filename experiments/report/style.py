"""Defines the look of all figures: colours and symbols, one template, hover texts."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from prefetch_tuning.objectives.measurement import Interval

# The Okabe-Ito palette (Okabe and Ito 2008, Color Universal Design) and two colours that differ
# from it, for colour-blind readers. Each meaning also has its own symbol.
BLUE, PALE_BLUE, ORANGE, GREEN = "#0072B2", "#8FC1E3", "#E69F00", "#009E73"
PURPLE, GREY, INK, GRID = "#7B5EA7", "#8A94A0", "#1F2933", "#E4E8ED"
LIMIT = "#B03A6F"

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
RATE = "examples/s"

CONFIG = {
    "responsive": True,
    "displaylogo": False,
    # Zooming is opt-in, so a finger that scrolls the page does not catch on a figure.
    "modeBarButtons": [["zoom2d", "resetScale2d", "toImage"]],
}


class Look(NamedTuple):
    """The look of a group of points: plotly's symbol names, sizes in pixels."""

    colour: str
    symbol: str
    size: int = 10


TUNED = Look(BLUE, "circle")
ONE_TRIAL = Look(PALE_BLUE, "circle")
BASELINE = Look(ORANGE, "square")
RECOMMENDED = Look(GREEN, "star", 15)
OVER_LIMIT = Look(GREY, "triangle-down")


def template() -> go.layout.Template:
    """Dark text on white with few lines; the legend is above the plot and covers no point."""
    axis = {
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "automargin": True,
        "title": {"standoff": 8, "font": {"size": 12}},
        "tickfont": {"size": 12},
    }
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.03, "yanchor": "bottom"}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": INK},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "margin": {"l": 8, "r": 16, "t": 8, "b": 8},
            "xaxis": axis,
            "yaxis": axis | {"ticklabelstandoff": 6},
            "separators": ".,",
            "dragmode": False,
            "hoverlabel": {"bgcolor": "white", "font": {"color": INK, "size": 12}, "align": "left"},
            "legend": legend | {"font": {"size": 12}},
        }
    )


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's style, as wide as the page; `height` in pixels."""
    return go.Figure(layout={"template": template(), "height": height, **layout})


def rate_axis(title: str = RATE, **more: Any) -> dict[str, Any]:
    """An axis for rates, with few ticks because a phone has no room for many numbers."""
    return {"title": {"text": title}, "tickformat": ",", "nticks": 6, **more}


def dots(
    name: str, look: Look, x: Sequence[Any], y: Sequence[Any], texts: Sequence[str], **more: Any
) -> go.Scatter:
    """Points of one group; `texts` are made by `hover`."""
    marker = {"color": look.colour, "symbol": look.symbol, "size": look.size}
    # A white rim keeps overlapping points apart.
    marker |= {"line": {"color": "white", "width": 1}} if "open" not in look.symbol else {}
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        name=name,
        marker=marker,
        hovertext=texts,
        hoverinfo="text",
        **more,
    )


def bars(
    name: str, colour: str, values: dict[str, float], texts: Iterable[str], **more: Any
) -> go.Bar:
    """Horizontal bars by category, each with its number at the end."""
    shown = list(texts)
    return go.Bar(
        x=list(values.values()),
        y=list(values),
        orientation="h",
        name=name,
        marker={"color": colour},
        text=shown,
        textposition="auto",
        hovertext=[hover(key, text) for key, text in zip(values, shown, strict=True)],
        hoverinfo="text",
        **more,
    )


def label(text: str) -> str:
    """Escapes text from a user, in which plotly would interpret tags like `<b>` and links."""
    return html.escape(" ".join(text.split()), quote=False)


def hover(*lines: str) -> str:
    """The text that appears over a point, one escaped line each."""
    return "<br>".join(label(line) for line in lines if line)


def whiskers(values: Sequence[float], intervals: Sequence[Interval]) -> dict[str, Any]:
    """Error bars to the ends of the intervals, or none without an interval."""
    ends = [
        (ci.high - value, value - ci.low) if math.isfinite(ci.high) else (0.0, 0.0)
        for value, ci in zip(values, intervals, strict=True)
    ]
    return {
        "type": "data",
        "symmetric": False,
        "array": [above for above, _ in ends],
        "arrayminus": [below for _, below in ends],
        "thickness": 1.5,
        "width": 5,
        "color": INK,
    }
