"""Uses the wheel, installed elsewhere, beside a user's folders that have the floors' names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = ("experiments", "objectives", "pipelines")
# What a checkout contains besides its sources.
NO_SOURCES = (".venv", ".git", "mlruns", "build", "dist", "*.egg-info", "__pycache__", ".*_cache")
ROWS = """
import numpy as np


def rows(seed=0):
    rng = np.random.default_rng(seed)
    while True:
        yield rng.random(16, dtype=np.float32), int(rng.integers(4))
"""
OWN = "raise ImportError(\"a user's own folder was taken for the project's\")\n"
FROM_PYTHON = """
from prefetch_tuning import tune

found = tune("pipelines.mine:rows", step_time="2ms", trials=2, rounds=0)
print(found.results[0].trials.total)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    ignored = shutil.ignore_patterns(*NO_SOURCES)
    shutil.copytree(ROOT, sources, symlinks=True, ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *options, str(sources)], check=True)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's files, which come before the checkout's on the path."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A user's repository with folders that have the floors' names."""
    for name in FLOORS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("" if name == "pipelines" else OWN)
    (tmp_path / "pipelines" / "mine.py").write_text(ROWS)
    return tmp_path


def run(scratch: Path, installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=scratch, env=environment, capture_output=True, text=True, check=False
    )


def test_it_holds_files_of_one_import_root_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = files.namelist()
    roots = {name.split("/")[0] for name in names if ".dist-info/" not in name}

    assert roots == {"prefetch_tuning"}
    assert "prefetch_tuning/py.typed" in names
    assert "prefetch_tuning/experiments/report/templates/report.html.j2" in names
    assert "prefetch_tuning/objectives/loop/step.py" in names
    assert "prefetch_tuning/pipelines/starter.py" in names


def test_the_wheels_files_are_those_that_run(scratch: Path, installed: Path) -> None:
    where = "import prefetch_tuning.experiments.cli as cli; print(cli.__file__)"

    done = run(scratch, installed, "-c", where)

    assert done.stdout.strip() == str(installed / "prefetch_tuning" / "experiments" / "cli.py")


@pytest.mark.slow
@pytest.mark.parametrize("selector", ["pipelines.mine:rows", "pipelines/mine.py:rows"])
def test_a_generator_in_a_folder_of_that_name_is_tuned(
    scratch: Path, installed: Path, selector: str
) -> None:
    options = ("--step-time", "2ms", "--trials", "2", "--no-confirm")
    program = "from prefetch_tuning.experiments.cli import run; run()"

    done = run(scratch, installed, "-c", program, "tune", selector, *options)

    assert done.returncode == 0, done.stderr
    assert "rows: unconfirmed" in done.stdout


@pytest.mark.slow
def test_it_is_tuned_from_python(scratch: Path, installed: Path) -> None:
    done = run(scratch, installed, "-c", FROM_PYTHON)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"


@pytest.mark.slow
def test_type_checkers_read_its_types(scratch: Path, installed: Path) -> None:
    consumer = scratch / "consumer.py"
    shutil.copy(ROOT / "tests" / "typed_consumer.py", consumer)
    options = ("--strict", "--ignore-missing-imports", "--cache-dir", str(scratch / "cache"))

    done = run(scratch, installed, "-m", "mypy", *options, consumer.name)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_to_start_from_is_in_it(scratch: Path, installed: Path) -> None:
    program = "from prefetch_tuning.experiments.cli import run; run()"

    done = run(scratch, installed, "-c", program, "new", "my_rows.py")

    assert done.returncode == 0, done.stderr
    assert "from prefetch_tuning import GeneratorPipeline" in (scratch / "my_rows.py").read_text()
