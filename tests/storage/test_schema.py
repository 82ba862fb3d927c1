"""Everything that is logged is in the schema, and every metric has a unit and a meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import pytest

from prefetch_tuning.experiments.report.metrics import result_metrics
from prefetch_tuning.experiments.report.publish import result_tags
from prefetch_tuning.experiments.storage.schema import (
    LIMIT_METRICS,
    STUDY_METRICS,
    TRIAL_METRICS,
    Metric,
    Tag,
    limit_metrics,
    trial_metrics,
)
from tests.support import report_records
from tests.support.fakes import LIMIT_TERMS, measurement


def unknown(names: Iterable[str], table: Mapping[str, Metric]) -> list[str]:
    """Names that match none in the table, in which a word in capitals matches any one word."""
    patterns = [re.sub(r"\b[A-Z]+\b", "[^/]+", name) for name in table]
    return [name for name in names if not any(re.fullmatch(p, name) for p in patterns)]


def test_every_metric_of_a_trial_is_in_it() -> None:
    found = trial_metrics(measurement(1_000.0))

    assert found
    assert unknown(found, TRIAL_METRICS) == []


def test_every_metric_of_the_limit_is_in_it() -> None:
    assert unknown(limit_metrics(LIMIT_TERMS), LIMIT_METRICS) == []


@pytest.mark.parametrize("record", [report_records.full(), report_records.step_bound()])
def test_every_metric_and_tag_of_a_study_is_in_it(record: object) -> None:
    assert isinstance(record, type(report_records.full()))
    tags = result_tags(record.result)

    assert unknown(result_metrics(record), STUDY_METRICS) == []
    assert tags.keys() <= set(Tag)


def test_the_check_sees_a_name_that_is_not_in_it() -> None:
    assert unknown(["trials/complete", "trials/a/b", "memory"], STUDY_METRICS) == [
        "trials/a/b",
        "memory",
    ]


def test_each_has_a_meaning() -> None:
    for table in (TRIAL_METRICS, LIMIT_METRICS, STUDY_METRICS):
        assert all(metric.meaning for metric in table.values())
