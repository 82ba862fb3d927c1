"""CONTRIBUTING.md leads newcomers to files and folders that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FLOORS = ("experiments", "objectives", "pipelines")


def test_every_file_that_it_names_exists() -> None:
    files = [path.as_posix() for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    named = re.findall(r"`([a-z_/]+\.py)`", TEXT)

    assert len(named) > 20
    missing = [
        name
        for name in named
        if not (ROOT / name).is_file() and not any(file.endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_every_room_is_in_the_table() -> None:
    rooms = {
        path.parent.relative_to(ROOT).as_posix()
        for floor in FLOORS
        for path in (ROOT / floor).glob("*/__init__.py")
    }

    assert len(rooms) > 10
    assert [room for room in sorted(rooms) if f"| `{room}/` |" not in TEXT] == []
