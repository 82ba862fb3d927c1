"""Tuning from Python, and the starter file that `prefetch-tune new` writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import prefetch_tuning
from prefetch_tuning import tune
from prefetch_tuning.experiments.errors import StoreError, UsageError
from prefetch_tuning.experiments.settings import TuneOptions, TuneRequest
from prefetch_tuning.pipelines.source import PipelineError
from tests.conftest import ROOT
from tests.planted import functions as planted_functions
from tests.process.test_runner import QUICK
from tests.test_cli import prefetch_tune


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_function_is_tuned_and_the_result_shows_itself(folder: Path) -> None:
    found = tune(
        planted_functions.rows,
        map=planted_functions.double,
        step_time="2ms",
        trials=2,
        rounds=0,
        batch_size=8,
        stop=QUICK,
        device="cpu",
        study="api",
    )

    assert found.problems == []
    [result] = found.results
    assert (result.pipeline, result.study, result.trials.total) == ("rows", "api", 2)
    assert "rows: unconfirmed" in repr(found)
    assert "an emulated step: 2 ms" in " ".join(repr(found).split())
    page = found._repr_html_()
    assert page.count("<tr>") == 2
    assert "<th>pipeline</th>" in page
    assert "<td>rows</td>" in page


def test_what_cannot_be_used_is_said(folder: Path) -> None:
    def local() -> None: ...

    with pytest.raises(UsageError, match="at the top level of a file beside this one"):
        tune(local)
    with pytest.raises(UsageError, match=r"belong to exactly one generator function, .* not 2"):
        tune("simple", "image", map=planted_functions.double)
    with pytest.raises(UsageError, match="give only one of model, step_time and accelerator"):
        tune("simple", step_time="5ms", accelerator="resnet50-h100")
    with pytest.raises(PipelineError, match="no accelerator named 'h100'"):
        tune("simple", accelerator="h100")
    with pytest.raises(StoreError, match="there is no "):
        tune("simple", accelerator="runs:/0")  # nothing was ever logged in this folder
    with pytest.raises(UsageError, match=r"rounds: Input should be a valid integer"):
        tune("simple", rounds="many")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"trials: Input should be greater than or equal to 1"):
        tune("simple", trials=-3)
    with pytest.raises(UsageError, match=r"rounds: must be at least 9, or 0 for none, not 3"):
        tune("simple", rounds=3)
    with pytest.raises(UsageError, match=r"speed: Extra inputs are not permitted"):
        tune("simple", speed="high")  # type: ignore[call-arg]
    with pytest.raises(PipelineError, match="must be float16 or bfloat16, not 'half'"):
        tune("simple", mixed_precision="half")  # type: ignore[arg-type]
    with pytest.raises(PipelineError, match="no pipeline named 'imgae'"):
        tune("imgae")
    with pytest.raises(AttributeError, match="has no attribute 'tuna'"):
        _ = prefetch_tuning.tuna
    assert list(folder.iterdir()) == []


def test_the_keywords_are_the_options_that_there_are() -> None:
    assert TuneOptions.__annotations__.keys() == TuneRequest.model_fields.keys() - {"pipelines"}


def test_the_starter_is_a_pipeline_under_its_own_name(folder: Path) -> None:
    done = prefetch_tune(folder, "new", "my_rows.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote my_rows.py; tune it with: prefetch-tune tune my_rows.py:MyRows\n"

    listed = prefetch_tune(folder, "pipelines", "my_rows:MyRows")
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"my_rows\n.*element +\(float32\[16\], int32\)", listed.stdout, re.DOTALL)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("there.py", "'there.py' already exists; choose another name"),
        ("my-rows.py", "'my-rows.py' isn't a Python module name: choose one like my_pipeline.py"),
        ("rows.txt", "'rows.txt' isn't a Python module name"),
        ("nowhere/rows.py", "cannot write 'nowhere/rows.py': No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(folder: Path, name: str, message: str) -> None:
    (folder / "there.py").write_text("precious = 1\n")
    done = prefetch_tune(folder, "new", name)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert (folder / "there.py").read_text() == "precious = 1\n"
