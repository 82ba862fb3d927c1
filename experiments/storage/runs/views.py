"""Saved views for the MLflow UI: the columns and charts that matter, without setting them up.

MLflow 3.17 keeps a named view as a tag of its experiment and lists it under "Views" in the Runs
tab. It has no API for views, so this writes what the UI itself writes. If a later version changes
the format, its UI ignores these tags and shows its default columns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefetch_tuning.experiments.storage.schema import Kind, Tag

# The UI's key of a view, and of the view in a link.
VIEW_TAG = "mlflow.sharedViewState."
# The UI allows 40 views per experiment. Older studies lose theirs first.
MOST_VIEWS = 30
STUDIES = "studies"
RATE, MEMORY = "throughput/examples_per_s", "memory/host_peak_mib"
UTILISATION = "accelerator/utilisation"
# Pages of the UI open in its view for training runs, not in its default one for prompts and traces.
TRAINING = "workflowType=machine_learning"


@dataclass(frozen=True)
class View:
    """A named view of an experiment's runs.

    Attributes:
        key: identifies it in links; a study's run id, or `STUDIES`.
        name: what the list of views shows.
        runs: MLflow's search filter.
        order_by: the column to sort by, falling.
        columns: the columns to show.
        charts: the charts to show.
    """

    key: str
    name: str
    runs: str
    order_by: str
    columns: Sequence[str]
    charts: Sequence[Mapping[str, Any]]

    def tag_value(self, now_ms: int) -> str:
        """The view as the UI stores it; `now_ms` is the time in milliseconds since 1970."""
        section = f"{self.key}-charts"
        charts = [
            {
                "uuid": f"{self.key}-{number}",
                "metricSectionId": section,
                "deleted": False,
                "isGenerated": False,
                **chart,
            }
            for number, chart in enumerate(self.charts)
        ]
        state = {
            "searchFilter": self.runs,
            "orderByKey": self.order_by,
            "orderByAsc": False,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "datasetsFilter": [],
            "modelVersionFilter": "All Runs",
            "selectedColumns": list(self.columns),
            "compareRunCharts": charts,
            "compareRunSections": [
                {
                    "uuid": section,
                    "name": self.name,
                    "display": True,
                    "isReordered": False,
                    "deleted": False,
                    "isGenerated": False,
                }
            ],
            "isAccordionReordered": True,
        }
        envelope = {"name": self.name, "createdAt": now_ms, "updatedAt": now_ms}
        return json.dumps(envelope | {"state": json.dumps(state)})


def studies_view() -> View:
    """All studies of a pipeline: the verdicts, the limits and the recommended settings."""
    return View(
        key=STUDIES,
        name="Studies",
        runs=f"tags.{Tag.KIND} = '{Kind.STUDY}'",
        order_by="attributes.start_time",
        columns=[
            "attributes.`Dataset`",
            column("tags", Tag.VERDICT),
            column("tags", Tag.DIAGNOSIS_CLASS),
            *(
                column("metrics", name)
                for name in ("speedup/ratio", "limit/fraction", RATE, MEMORY)
            ),
            *settings_columns(),
        ],
        charts=[bar("speedup/ratio"), bar(RATE), bar("limit/fraction"), bar(MEMORY)],
    )


def trials_view(run_id: str, study: str) -> View:
    """The trials of one study, to compare as a table and as charts."""
    return View(
        key=run_id,
        name=f"Trials of {study}",
        runs=f"tags.{Tag.STUDY} = '{study}' AND tags.{Tag.KIND} = '{Kind.TRIAL}'",
        order_by=column("metrics", RATE),
        columns=[
            column("tags", Tag.STATE),
            *(
                column("metrics", name)
                for name in (RATE, UTILISATION, MEMORY, "prediction/examples_per_s")
            ),
            *settings_columns(),
        ],
        charts=[
            {
                "type": "PARALLEL",
                "selectedParams": [
                    "batch_size",
                    "prefetch_buffer",
                    "map_parallelism",
                    "generator_chunk",
                ],
                "selectedMetrics": [RATE],
                "showAllRuns": False,
            },
            bar(RATE),
            {
                "type": "SCATTER",
                "xaxis": {"key": MEMORY, "type": "METRIC"},
                "yaxis": {"key": RATE, "type": "METRIC"},
                "runsCountToCompare": 100,
            },
            bar(UTILISATION),
        ],
    )


def surplus(tags: Mapping[str, str]) -> list[str]:
    """The tags of the oldest views of trials, beyond `MOST_VIEWS`; other views aren't touched."""
    ours = {
        key: json.loads(value)["createdAt"]
        for key, value in tags.items()
        if key.startswith(VIEW_TAG) and '"name": "Trials of ' in value
    }
    return sorted(ours, key=lambda key: ours[key])[: max(len(ours) - MOST_VIEWS, 0)]


def link(experiment: str, view: str, *, charts: bool = False) -> str:
    """The page of the UI that shows a view, without the server's address."""
    mode = "&compareRunsMode=CHART" if charts else ""
    return f"/#/experiments/{experiment}/runs?{TRAINING}&viewStateShareKey={view}{mode}"


def report_link(experiment: str, run_id: str) -> str:
    """The page of the UI that shows a study's report, without the server's address."""
    return f"/#/experiments/{experiment}/runs/{run_id}/artifacts/report.html?{TRAINING}"


def settings_columns() -> list[str]:
    """The columns of the settings that most studies search."""
    names = ("batch_size", "prefetch_buffer", "map_parallelism", "generator_chunk")
    return [column("params", name) for name in (*names, "vectorized_map", "generator_workers")]


def column(kind: str, name: str) -> str:
    """The UI's name of a column; `kind` is "params", "metrics" or "tags"."""
    return f"{kind}.`{name}`"


def bar(metric: str) -> dict[str, Any]:
    """A bar per run."""
    return {"type": "BAR", "metricKey": metric, "displayName": metric, "runsCountToCompare": 30}
