"""Saved views have the form that the MLflow UI stores itself, and old ones make room."""

from __future__ import annotations

import json

from prefetch_tuning.experiments.storage.runs.views import (
    MOST_VIEWS,
    VIEW_TAG,
    link,
    studies_view,
    surplus,
    trials_view,
)
from prefetch_tuning.experiments.storage.schema import STUDY_METRICS, TRIAL_METRICS
from prefetch_tuning.pipelines.config import PipelineConfig

NOW_MS = 1_700_000_000_000


def test_a_view_has_its_name_its_filter_and_its_columns() -> None:
    envelope = json.loads(trials_view("f" * 32, "image-1").tag_value(NOW_MS))
    state = json.loads(envelope["state"])

    assert (envelope["name"], envelope["createdAt"]) == ("Trials of image-1", NOW_MS)
    assert state["searchFilter"] == "tags.study = 'image-1' AND tags.kind = 'trial'"
    assert "metrics.`throughput/examples_per_s`" in state["selectedColumns"]
    assert "params.`generator_chunk`" in state["selectedColumns"]


def test_each_chart_is_in_the_section_and_has_its_own_id() -> None:
    for view in (studies_view(), trials_view("f" * 32, "image-1")):
        state = json.loads(json.loads(view.tag_value(NOW_MS))["state"])
        [section] = state["compareRunSections"]
        charts = state["compareRunCharts"]

        assert {chart["metricSectionId"] for chart in charts} == {section["uuid"]}
        assert len({chart["uuid"] for chart in charts}) == len(charts) > 2


def test_columns_and_charts_show_what_is_logged() -> None:
    for view, metrics in (
        (studies_view(), STUDY_METRICS),
        (trials_view("f" * 32, "image-1"), TRIAL_METRICS),
    ):
        shown = [name.split("`")[1] for name in view.columns if name.startswith("metrics.")]
        shown += [chart["metricKey"] for chart in view.charts if "metricKey" in chart]
        params = [name.split("`")[1] for name in view.columns if name.startswith("params.")]

        assert shown
        assert set(shown) <= set(metrics)
        assert set(params) <= set(PipelineConfig.model_fields)


def test_the_oldest_views_make_room_and_those_of_users_stay() -> None:
    tags = {
        VIEW_TAG + str(number): trials_view(str(number), "s").tag_value(NOW_MS + number)
        for number in range(MOST_VIEWS + 2)
    }
    tags[VIEW_TAG + "mine"] = json.dumps({"name": "Mine", "createdAt": 0, "state": "{}"})
    tags[VIEW_TAG + "studies"] = studies_view().tag_value(0)
    tags["mlflow.note.content"] = "a note"

    assert surplus(tags) == [VIEW_TAG + "0", VIEW_TAG + "1"]


def test_a_link_opens_the_view_for_training_runs() -> None:
    assert link("3", "studies") == (
        "/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey=studies"
    )
    assert link("3", "f", charts=True).endswith("viewStateShareKey=f&compareRunsMode=CHART")
