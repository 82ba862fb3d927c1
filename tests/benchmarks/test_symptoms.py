"""The tables of docs/symptoms.md, from made-up measurements, and whether the page is complete."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks.markers import between_markers
from benchmarks.symptoms.__main__ import DOCUMENT, Rounds, measured_alone, row
from benchmarks.symptoms.cases import CASES, NOW
from prefetch_tuning.experiments.search.diagnosis import Bottleneck
from tests.support.fakes import measurement


def test_each_symptom_has_a_place_in_the_page() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for case in CASES:
        between_markers(text, case.key, [])


@pytest.mark.parametrize("bottleneck", get_args(Bottleneck))
def test_the_page_names_each_bottleneck_that_a_diagnosis_can_find(bottleneck: str) -> None:
    assert f"`{bottleneck}`" in DOCUMENT.read_text(encoding="utf-8")


def test_a_row_compares_with_autotune_in_the_same_rounds() -> None:
    rounds: Rounds = {
        NOW: [measurement(rate) for rate in (100.0, 110.0, 90.0)],
        "blocks": [measurement(2 * rate) for rate in (100.0, 110.0, 90.0)],
    }
    assert row("blocks", rounds).startswith("| blocks | 200 | 2.00x (2.00x to 2.00x) |")


def test_a_table_that_was_measured_alone_names_its_day_and_machine() -> None:
    assert measured_alone(len(CASES)) == []
    assert measured_alone(1)[-1].startswith("Measured on ")
