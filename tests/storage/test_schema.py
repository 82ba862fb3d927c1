"""Everything that is logged is in the schema, and everything in it has a meaning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from prefetch_tuning.experiments.commands.selftest_output import selftest_metrics
from prefetch_tuning.experiments.host.environment import ENVIRONMENT_TAGS, environment_tags
from prefetch_tuning.experiments.repeat.selftest import SelfTest
from prefetch_tuning.experiments.report.metrics import result_metrics
from prefetch_tuning.experiments.report.publish import result_tags
from prefetch_tuning.experiments.storage.schema import (
    CHILD_TAGS,
    KINDS,
    LIMIT_METRICS,
    RUN_TAGS,
    SELFTEST_METRICS,
    STUDY_METRICS,
    STUDY_TAGS,
    TRIAL_METRICS,
    Kind,
    Tag,
    limit_metrics,
    trial_metrics,
)
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support import report_records
from tests.support.fakes import LIMIT_TERMS, measurement


def unknown(names: Iterable[str], table: Iterable[str]) -> list[str]:
    """Names that match none in the table, in which a word in capitals matches any one word."""
    patterns = [re.sub(r"\b[A-Z]+\b", "[^/]+", name) for name in table]
    return [name for name in names if not any(re.fullmatch(p, name) for p in patterns)]


def test_every_metric_of_a_trial_is_in_it() -> None:
    found = trial_metrics(measurement(1_000.0))

    assert found
    assert unknown(found, TRIAL_METRICS) == []


def test_every_metric_of_the_limit_is_in_it() -> None:
    assert unknown(limit_metrics(LIMIT_TERMS), LIMIT_METRICS) == []


def test_every_metric_of_a_self_test_is_in_it() -> None:
    found = SelfTest(
        pipeline="simple",
        config=PipelineConfig.no_prefetch(8),
        rounds=9,
        ratios=[],
        false_share=0.0,
        false_ci=Interval(low=0.0, high=0.1),
        sound=True,
        cv=0.02,
        round_cv=0.01,
        half_width=0.01,
        warnings=[],
        wall_s=1.0,
    )

    assert unknown(selftest_metrics(found), SELFTEST_METRICS) == []


@pytest.mark.parametrize("record", [report_records.full(), report_records.step_bound()])
def test_every_metric_and_tag_of_a_study_is_in_it(record: object) -> None:
    assert isinstance(record, type(report_records.full()))
    tags = result_tags(record.result)

    assert unknown(result_metrics(record), STUDY_METRICS) == []
    assert tags.keys() <= STUDY_TAGS.keys()


def test_every_tag_of_the_environment_is_in_it() -> None:
    assert unknown(environment_tags(Path.cwd()), ENVIRONMENT_TAGS) == []


def test_the_check_sees_a_name_that_is_not_in_it() -> None:
    assert unknown(["trials/complete", "trials/a/b", "memory"], STUDY_METRICS) == [
        "trials/a/b",
        "memory",
    ]


def test_every_metric_has_a_meaning() -> None:
    for table in (TRIAL_METRICS, LIMIT_METRICS, STUDY_METRICS, SELFTEST_METRICS):
        assert all(metric.meaning for metric in table.values())


def test_every_kind_has_a_meaning() -> None:
    assert KINDS.keys() == set(Kind)
    assert all(KINDS.values())


def test_every_tag_has_one_meaning() -> None:
    tables = (RUN_TAGS, CHILD_TAGS, STUDY_TAGS)

    assert sorted(tag for table in tables for tag in table) == sorted(Tag)
    assert all(all(table.values()) for table in tables)
    assert all(ENVIRONMENT_TAGS.values())
