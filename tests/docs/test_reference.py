"""The pages in docs/reference/ are current: they equal what docs/reference.py makes of the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("options.md", "parameters.md", "metrics.md", "tags.md")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script; docs/ isn't a package."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PAGES)
def test_the_committed_page_is_current(name: str, reference: ModuleType) -> None:
    path = DOCS / "reference" / name
    committed = path.read_text(encoding="utf-8") if path.is_file() else ""

    assert committed == reference.pages()[name], (
        f"docs/reference/{name} is out of date: run `python docs/reference.py`"
    )


def test_there_are_no_other_pages(reference: ModuleType) -> None:
    assert tuple(reference.pages()) == PAGES
    assert {path.name for path in (DOCS / "reference").iterdir()} == set(PAGES)


def test_check_names_the_pages_that_are_out_of_date_and_writes_nothing(
    reference: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "reference"
    monkeypatch.setattr(reference, "FOLDER", folder)

    assert reference.main(["--check"]) == 1
    assert not folder.exists()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        f"docs/reference/{name}" for name in PAGES
    ]

    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0

    (folder / "tags.md").write_text("by hand", encoding="utf-8")
    assert reference.main(["--check"]) == 1
    assert capsys.readouterr().out.startswith("docs/reference/tags.md is out of date")
    assert (folder / "tags.md").read_text(encoding="utf-8") == "by hand"


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("options.md", "| `--device {auto,cpu,gpu}` | where the training steps run;"),
        ("options.md", "| `[PIPELINE ...]` | names of built-in pipelines,"),
        ("options.md", r"| `--mixed-precision [float16\|bfloat16]` | build the model"),
        ("options.md", "| `--no-confirm` | skip the confirmation;"),
        ("parameters.md", "| `batch_size` | whole number from 1 to 65,536 | required | examples"),
        ("parameters.md", "| `prefetch_buffer` | whole number from 0 to 4,096 or `auto` |"),
        ("parameters.md", "| `workers` | whole number from 0 to 256 | `1` | settings of a"),
        ("parameters.md", "| `device` | `auto`, `cpu`, `gpu` | `auto` |"),
        ("parameters.md", "| `stop.window_s` | number, above 0, at most 86,400 | `0.15` | length"),
        ("metrics.md", "| `selftest/ratio` | ratio | ratio of the configuration to itself"),
        ("tags.md", "| `state` | how the run ended: complete,"),
    ],
)
def test_a_row_says_what_the_code_says(name: str, start: str, reference: ModuleType) -> None:
    assert f"\n{start}" in reference.pages()[name]


@pytest.mark.parametrize("name", PAGES)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(
    name: str, reference: ModuleType
) -> None:
    tables = re.findall(r"^\|.*(?:\n\|.*)+", reference.pages()[name], re.MULTILINE)

    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
