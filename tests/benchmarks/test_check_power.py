"""The table of docs/check.md is what the simulation prints."""

from __future__ import annotations

import pytest

from benchmarks import check_power
from tests.conftest import ROOT


def test_the_table_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    check_power.main()

    rows = capsys.readouterr().out
    assert rows.count("\n") == 2 * len(check_power.NOISES)
    assert rows in (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
