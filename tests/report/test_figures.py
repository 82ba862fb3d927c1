"""Every figure shows the numbers of its record with units, and is left out without data."""

from __future__ import annotations

from typing import Any

import pytest

from prefetch_tuning.experiments.report import figures_confirmation, figures_result, figures_search
from prefetch_tuning.experiments.report.points import Point, best_by_batch_size, pareto, points
from prefetch_tuning.experiments.report.sections import sections
from prefetch_tuning.experiments.report.style import (
    BASELINE,
    LIMIT,
    RECOMMENDED,
    TUNED,
    hover,
    whiskers,
)
from prefetch_tuning.experiments.verdict.measurements import Reached
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support import report_records

FULL = report_records.full()
ALL = (
    figures_confirmation.confirmation,
    figures_result.throughput_and_memory,
    figures_result.stage_costs,
    figures_result.batch_sizes,
    figures_search.axes,
    figures_search.trials,
    figures_search.importance,
)


def traces(chart: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in chart.data}


def point(mib: float, rate: float, *, fits: bool = True) -> Point:
    reached = Reached(
        config=PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1),
        examples_per_s=rate,
        ci=Interval(low=rate, high=rate),
        host_peak_mib=mib,
        device_peak_mib=None,
    )
    return Point(reached, "trial 0", confirmed=False, fits=fits)


def test_what_read_other_data_is_no_point() -> None:
    out = FULL.result.confirmation[0].model_copy(update={"same_data": False})
    before = next(t for t in FULL.trials if t.state == "complete" and t.config != out.config)
    result = FULL.result.model_copy(
        update={
            "confirmation": [out, *FULL.result.confirmation[1:]],
            "other_data": [out.candidate, str(before.config)],
        }
    )
    record = FULL.model_copy(update={"result": result})
    excluded = {out.config, before.config}

    left = {point.reached.config for point in points(record)}
    assert left == {point.reached.config for point in points(FULL)} - excluded
    assert excluded.isdisjoint(p.reached.config for p in best_by_batch_size(record))


def test_medians_stand_with_their_interval_beside_their_limit() -> None:
    drawn = traces(figures_confirmation.confirmation(FULL)[0])
    found = {c.candidate: c for c in FULL.result.confirmation}
    best = found["trial-17"]

    assert list(drawn["recommended"].x) == [best.examples_per_s]
    assert drawn["recommended"].error_x.array[0] == best.ci.high - best.examples_per_s
    assert drawn["recommended"].error_x.arrayminus[0] == best.examples_per_s - best.ci.low
    assert list(drawn["tuned"].y) == ["trial-5"]
    assert set(drawn["baseline"].y) == {"autotune", "no_prefetch"}
    assert FULL.result.limit is not None
    assert list(drawn["limit"].x) == [
        FULL.result.limit.examples_per_s for _ in FULL.result.confirmation
    ]
    colours = [drawn[name].marker.color for name in ("recommended", "tuned", "baseline", "limit")]
    assert colours == [RECOMMENDED.colour, TUNED.colour, BASELINE.colour, LIMIT]


def test_autotune_is_marked_where_it_is_recommended() -> None:
    drawn = traces(figures_confirmation.confirmation(report_records.step_bound())[0])

    assert list(drawn["recommended"].y) == ["autotune"]


def test_a_single_round_has_no_whiskers() -> None:
    bars = whiskers([5.0, 7.0], [Interval(low=0, high=float("inf")), Interval(low=6, high=9)])

    assert (bars["array"], bars["arrayminus"]) == ([0.0, 2.0], [0.0, 1.0])


def test_the_front_is_what_nothing_beats_in_both() -> None:
    lean, fast = point(10, 100), point(30, 300)
    beaten, heavy, too_big = point(20, 90), point(40, 300), point(50, 999, fits=False)

    assert pareto([heavy, too_big, fast, beaten, lean]) == [lean, fast]


def test_a_confirmed_configuration_appears_once_and_goes_before_a_lucky_trial() -> None:
    found = [p for p in points(FULL) if p.reached.config == report_records.BEST]
    best = {p.reached.config.batch_size: p for p in best_by_batch_size(FULL)}
    lucky = max(
        p.reached.examples_per_s for p in points(FULL) if p.reached.config.batch_size == 128
    )

    assert [p.source for p in found] == ["9 rounds"]
    assert best[128].reached.config == report_records.BEST
    assert best[128].reached.examples_per_s < lucky
    assert not best[16].confirmed


def test_stage_costs_are_microseconds_and_the_limiting_one_is_bold() -> None:
    chart = figures_result.stage_costs(FULL)[0]
    drawn = traces(chart)

    assert list(drawn["wall time"].x) == pytest.approx([21.0, 58.0, 170.0, 4.0, 95.0])
    assert drawn["CPU time"].x[2] == pytest.approx(187.0)
    assert "<b>map</b>" in chart.layout.yaxis.ticktext


def test_only_axes_that_vary_are_drawn_on_powers_of_two() -> None:
    charts = figures_search.axes(FULL)
    same = [
        t.model_copy(update={"config": t.config.model_copy(update={"map_parallelism": 1})})
        for t in FULL.trials
    ]

    titles = list(figures_search.AXES.values())
    assert [chart.layout.xaxis.title.text for chart in charts] == titles[:3]
    assert list(charts[0].layout.xaxis.tickvals) == [16, 32, 64, 128]
    assert len(figures_search.axes(FULL.model_copy(update={"trials": same}))) == 2


def test_a_structural_axis_is_drawn_where_it_was_searched() -> None:
    searched = [
        t.model_copy(update={"config": t.config.model_copy(update={"generator_chunk": 2**number})})
        for number, t in enumerate(FULL.trials[:8])
    ]

    charts = figures_search.axes(FULL.model_copy(update={"trials": searched}))

    assert "generator_chunk, elements" in [chart.layout.xaxis.title.text for chart in charts]


def test_trials_tell_their_state_by_symbol_and_the_best_so_far_never_falls() -> None:
    drawn = traces(figures_search.trials(FULL)[0])
    states = [drawn[name] for name in ("complete", "pruned", "over limit", "failed")]
    best = list(drawn["fastest so far"].y)

    assert [len(trace.x) for trace in states] == [15, 6, 1, 2]
    assert len({trace.marker.symbol for trace in states}) == 4
    assert list(drawn["failed"].y) == [0.0, 0.0]
    assert best == sorted(best)
    assert list(drawn["warm start"].x) == [0, 1, 2, 3, 4]
    assert len(drawn["predicted"].x) == 24
    assert FULL.result.limit is not None
    assert set(drawn["limit at batch 128"].y) == {FULL.result.limit.examples_per_s}


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_there_is_no_figure_without_data(make: Any) -> None:
    assert make(report_records.nothing()) == []


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_axes_and_hover_texts_have_units(make: Any) -> None:
    for chart in make(FULL):
        titles = f"{chart.layout.xaxis.title.text} {chart.layout.yaxis.title.text}"
        assert "examples" in titles or "µs per example" in titles
        for trace in chart.data:
            texts = trace.hovertext if trace.hoverinfo == "text" else "examples/s"
            for text in [texts] if isinstance(texts, str) else texts:
                assert any(unit in text for unit in ("examples/s", "µs", "%", "failed"))


def test_every_section_has_a_caption_and_a_sentence_for_nothing() -> None:
    for section in sections(FULL):
        assert section.caption.endswith(".")
        assert section.empty.endswith(".")
        assert not section.is_empty


def test_a_persons_words_are_no_markup_of_plotly() -> None:
    assert hover("<b>x</b>\n&", "") == "&lt;b&gt;x&lt;/b&gt; &amp;"
