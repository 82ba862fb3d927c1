"""Misuse as a user meets it: one line, exit code 2, and nothing written."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from prefetch_tuning.experiments.cli import main, parser
from prefetch_tuning.experiments.commands.arguments import targets_of
from prefetch_tuning.experiments.commands.values import memory_mib
from prefetch_tuning.objectives.process.keras_backend import why_not_tensorflow
from prefetch_tuning.pipelines import catalog
from tests.conftest import HANG_S, ROOT
from tests.support.program import COMMAND


@dataclass(frozen=True)
class Done:
    """A command's exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def prefetch_tune(folder: Path, *arguments: str) -> Done:
    """Runs the command in this process: a new one would import for seconds."""
    out, err = io.StringIO(), io.StringIO()
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = main(arguments)
        except SystemExit as left:  # --help
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imgae"], "no pipeline named 'imgae'; did you mean 'image'?"),
        (["simple", "--trials", "0"], "--trials: must be at least 1, not 0"),
        (["simple", "--batch-size", "-8"], "--batch-size: must be from 1 to 65536, not -8"),
        (["simple", "--time-budget", "0"], "--time-budget: must be above 0, not 0"),
        (["simple", "--target", "90"], "--target: must be above 0 and at most 1, not 90"),
        (["simple", "--seed", "-1"], "--seed: must be from 0 to 2147483647, not -1"),
        (["simple", "--memory-limit", "lots"], "a size like 512MiB or 2GiB, not 'lots'"),
        (["simple", "--trials", "many"], "--trials: must be a whole number, not 'many'"),
        (["simple", "--time-budget", "nan"], "--time-budget: must be above 0, not nan"),
        (["simple", "--device", "tpu"], "invalid choice: 'tpu' (choose from"),
        (["simple", "--trails", "3"], "unrecognized arguments: --trails"),
        (["simple", "--json", "no/such/folder.json"], "--json no/such/folder.json: not a file"),
        (
            ["simple", "--trial-timeout", "inf"],
            "--trial-timeout: must be from 0.1 to 86400, not inf",
        ),
        (
            ["--mixed-precision", "simple"],
            "--mixed-precision: must be float16 or bfloat16, not 'simple'; name pipelines before",
        ),
        (["simple:S,precision=half"], "mixed precision must be float16 or bfloat16, not 'half'"),
        (["my shards:Shards"], "'my shards:Shards' is not of the form module:attribute"),
        (["simple", "--storage", "results.db"], "'results.db' isn't an address"),
        # A separate process finds these, before anything is written.
        (["no_such_module:Mine"], "cannot import 'no_such_module'"),
        (
            ["tests.planted.pipelines:WrongShape"],
            "element 0[0] has shape (4,), but element_spec says (5,)",
        ),
        (["simple", "--device", "gpu"], "--device gpu: TensorFlow sees no GPU here"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = prefetch_tune(tmp_path, "tune", *arguments)

    if "gpu" in arguments and done.returncode == 0:
        pytest.skip("this machine has a GPU")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_store_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("not a folder")

    done = prefetch_tune(tmp_path, "tune", "simple")

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/mlruns is not a folder")


def test_the_program_itself_says_no_more_than_that(tmp_path: Path) -> None:
    """In a separate process, as a user starts it."""
    done = subprocess.run(
        [*COMMAND, "tune", "imgae"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no pipeline named 'imgae'; did you mean 'image'?")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_gpu_that_the_environment_hides_is_not_called_missing(
    tmp_path: Path, hidden: str
) -> None:
    """In a separate process: the GPU must be hidden before TensorFlow is imported."""
    done = subprocess.run(
        [*COMMAND, "tune", "simple", "--device", "gpu"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": hidden},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"error: --device gpu: CUDA_VISIBLE_DEVICES is {hidden!r} here: it hides every GPU"
    )
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by_file", [False, True])
@pytest.mark.parametrize("command", ["tune", "diagnose", "pipelines"])
def test_keras_on_another_backend_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, by_file: bool
) -> None:
    """Also where that backend isn't installed, as here: importing Keras would fail."""
    home = tmp_path / "home"
    home.mkdir()
    setting = str(home / "keras.json") if by_file else "KERAS_BACKEND=jax"
    monkeypatch.setenv("KERAS_HOME", str(home))
    if by_file:
        (home / "keras.json").write_text('{"backend": "jax"}')
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
    else:
        monkeypatch.setenv("KERAS_BACKEND", "jax")
    (tmp_path / "work").mkdir()

    # A built-in one is listed without importing Keras.
    pipeline = "tests.planted.pipelines:Planted" if command == "pipelines" else "simple"
    done = prefetch_tune(tmp_path / "work", command, pipeline)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: Keras runs on jax here ({setting}), but prefetch-tuning measures tf.data feeding "
        "TensorFlow: set KERAS_BACKEND=tensorflow\n"
    )
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("content", [None, "{}", "not JSON", '{"backend": "tensorflow"}'])
def test_keras_runs_on_tensorflow_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "")  # Keras ignores an empty value
    if content is not None:
        (tmp_path / "keras.json").write_text(content)

    assert why_not_tensorflow() is None


def test_the_variable_counts_more_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")

    assert why_not_tensorflow() is None


def test_pipelines_lists_what_there_is_and_ones_own(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "pipelines", "image", "tests.planted.pipelines:Planted")

    assert done.returncode == 0, done.stderr
    assert "16 32 64 128" in done.stdout
    assert "planted" in done.stdout
    assert done.stderr == ""  # TensorFlow's start-up noise stays out of the terminal


def test_the_built_in_ones_are_listed_without_importing_them(tmp_path: Path) -> None:
    code = (
        "import sys; from prefetch_tuning.experiments.cli import main; main(['pipelines']); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line[1:2].isalpha()][1:9] == (
        catalog.names()
    )


@pytest.mark.slow
def test_what_is_listed_is_what_an_inspection_finds() -> None:
    spec = importlib.util.spec_from_file_location("described", ROOT / "docs" / "described.py")
    assert spec is not None
    assert spec.loader is not None
    described = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(described)

    assert catalog.DESCRIBED.read_text(encoding="utf-8") == described.text(), (
        "pipelines/builtin/described.json is out of date: run `python docs/described.py`"
    )


def test_help_does_not_wait_for_anything(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "tune", "--help")

    assert done.returncode == 0
    for option in ("--trials", "--memory-limit", "--tracking-uri", "--study", "--json"):
        assert option in done.stdout


MODEL_OPTIONS: list[tuple[list[str], list[str]]] = [
    (["image"], ["prefetch_tuning.pipelines.builtin.image:ImagePipeline"]),
    (
        ["image", "--mixed-precision"],
        ["prefetch_tuning.pipelines.builtin.image:ImagePipeline,precision=float16"],
    ),
    (
        ["image", "m:Mine", "--mixed-precision", "bfloat16", "--jit-compile"],
        [
            "prefetch_tuning.pipelines.builtin.image:ImagePipeline,precision=bfloat16,jit=true",
            "m:Mine,precision=bfloat16,jit=true",
        ],
    ),
    (["m:f", "--model", "m:g", "--jit-compile"], ["m:f,model=m:g,jit=true"]),
]


@pytest.mark.parametrize("command", ["tune", "diagnose"])
@pytest.mark.parametrize(("arguments", "targets"), MODEL_OPTIONS)
def test_how_the_model_computes_belongs_to_the_target(
    command: str, arguments: list[str], targets: list[str]
) -> None:
    assert targets_of(parser().parse_args([command, *arguments])) == targets


def test_without_names_it_belongs_to_every_pipeline_that_runs_by_default() -> None:
    found = targets_of(parser().parse_args(["tune", "--jit-compile"]))

    assert found == [f"{catalog.resolve(name)},jit=true" for name in catalog.names()]
    assert targets_of(parser().parse_args(["tune"])) == []


@pytest.mark.parametrize(
    ("text", "mib"), [("512MiB", 512.0), ("2GiB", 2048.0), ("1.5 gb", 1536.0), ("64KiB", 1 / 16)]
)
def test_memory_sizes(text: str, mib: float) -> None:
    assert memory_mib(text) == mib


@pytest.mark.parametrize("text", ["2", "GiB", "-1GiB", "0MiB", "2GiB; rm"])
def test_what_is_no_memory_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a size like"):
        memory_mib(text)


def test_listing_the_commands_imports_nothing_that_takes_seconds() -> None:
    heavy = {"scipy", "optuna", "mlflow", "tensorflow", "pandas", "plotly"}
    code = f"import sys, prefetch_tuning.experiments.cli; print({heavy!r} & set(sys.modules))"
    command = [sys.executable, "-c", code]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.stdout == "set()\n"
