"""Every test that docs/reliability.md names exists."""

from __future__ import annotations

import re

from tests.conftest import ROOT

NAMED = re.compile(r"`(test_\w+)`")


def test_each_fault_has_its_test() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    named = set(NAMED.findall(page))
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }

    assert len(named) > 20
    assert named - there == set()
