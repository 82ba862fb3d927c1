"""`tune`, `diagnose`, `rerun` and `run` on a training script, as users type them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import mlflow
import pytest

from prefetch_tuning.experiments.cli import parsed
from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.repeat.compare_fit import CONFIGURED, WRITTEN, compare_fit
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.tuned import run_tuned
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.target import Target, compose
from tests.script.test_session import FIT
from tests.support.program import COMMAND
from tests.support.scripts import BEGIN
from tests.test_cli import Done, prefetch_tune

TRAIN = (
    BEGIN
    + """
import argparse
import os
import mlflow

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=4)
    size = parser.parse_args().size
    nobody = "http://127.0.0.1:9/nobody-listens"
    mlflow.set_tracking_uri(os.environ.get("OWN_SERVER", nobody))
    mlflow.set_experiment("mine")
    def small():
        for x, y in rows(100_000):
            yield x % 7, y

    dataset = tf.data.Dataset.from_generator(small, output_signature=SPEC)
    dataset = dataset.shuffle(100).map(lambda x, y: (x / 10, y)).batch(size).prefetch(1)
    model = make_model()
    model.fit(dataset, epochs=1, steps_per_epoch=30, verbose=0)
    print("trained", model.optimizer.iterations.numpy(), "steps")

if __name__ == "__main__":
    main()
"""
)


def run_alone(folder: Path, *arguments: str) -> Done:
    """In a process of its own, because the script changes MLflow's address."""
    own = {**os.environ, "OWN_SERVER": f"sqlite:///{folder}/own.db"}
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=own, capture_output=True, text=True, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


TRIALS = ("--trials", "3", "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def test_a_script_is_tuned_rerun_and_run(folder: Path) -> None:
    options = "--no-confirm --study mine --json found.json -- --size 16"
    tuned = prefetch_tune(folder, "tune", "train.py", *TRIALS, *options.split())
    assert tuned.returncode == 0, tuned.stderr
    (found,) = json.loads((folder / "found.json").read_text())
    assert found["best"]["config"]["batch_size"] == 16

    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiments = {each.name: each.experiment_id for each in client.search_experiments()}
    assert "mine" not in experiments  # the script's own, which it would make on its own server
    trial = client.search_runs([experiments["train"]], "tags.kind = 'trial'")[0]
    line = "train.py,args=--size%2016"
    assert trial.data.params["pipeline"] == line
    again = prefetch_tune(folder, "rerun", trial.info.run_id, line)
    assert again.returncode in (0, 3), again.stderr
    # Without a confirmation nothing is recommended.
    refused = prefetch_tune(folder, "run", "train.py")
    assert refused.returncode == 2
    assert "no study of train.py recommends anything yet" in refused.stderr

    config = f"runs:/{trial.info.run_id}"
    ran = run_alone(folder, "run", "train.py", "--config", config, "--", "--size", "16")
    assert ran.returncode == 0, ran.stderr
    assert "fit gets its data with batch 16" in ran.stderr
    assert "trained 30 steps" in ran.stdout


def test_fit_is_timed_both_ways(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    tuned = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=2, generator_chunk=64)
    configs = {WRITTEN: PipelineConfig.written(4), CONFIGURED: tuned}
    said: list[str] = []
    found = compare_fit("train.py", configs, steps=10, rounds=2, said=said.append)

    assert found.ratio > 0.0
    assert len(said) == 2
    assert re.fullmatch(
        r"round 2 of 2: examples/s in fit: as written [\d,]+, configured [\d,]+", said[1]
    )


def test_a_training_that_is_timed_to_its_end_gains_from_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its elements take 20 ms each, and with a cache nothing in the second and third epoch."""
    monkeypatch.chdir(tmp_path)
    slow = """
import time

def slow():
    for row in rows(30):
        time.sleep(0.02)
        yield row

dataset = tf.data.Dataset.from_generator(slow, output_signature=SPEC)
make_model().fit(dataset.batch(2), epochs=3, verbose=0)
"""
    (tmp_path / "train.py").write_text(BEGIN + slow)
    cached = PipelineConfig(batch_size=2, prefetch_buffer=2, map_parallelism=1, cache=True)
    said: list[str] = []
    found = compare_fit(
        "train.py",
        {WRITTEN: PipelineConfig.written(2), CONFIGURED: cached},
        steps=1_000,
        rounds=1,
        said=said.append,
    )

    assert found.ratio > 1.7


def test_a_script_that_fails_in_its_fit_gives_its_last_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "train.py").write_text("print('no data')")
    configs = {WRITTEN: PipelineConfig.written(4), CONFIGURED: PipelineConfig.autotune(4)}
    with pytest.raises(StudyError, match="gave no time of its fit"):
        compare_fit("train.py", configs, steps=10, rounds=2, said=print)


def test_a_script_that_changed_is_not_run_tuned(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "changed.py").write_text(BEGIN + FIT)
    said: list[str] = []
    config = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=2)
    with pytest.raises(PipelineError, match=r"isn't the one that was tuned: it was gone, and is"):
        run_tuned(Target(main="changed.py"), config, "gone", said.append)
    assert said == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('hello')", "train.py ended before its first fit on data from Python"),
        ("raise OSError('no data here')", "train.py failed with OSError: no data here, before"),
        ("input()", "train.py reads standard input, which a trial doesn't have, before"),
    ],
)
def test_a_script_without_a_fit_is_one_line_and_exit_code_2(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(text)
    done = prefetch_tune(tmp_path, "tune", "train.py", *TRIALS)

    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


def test_diagnose_names_the_shuffle_buffer(folder: Path) -> None:
    done = prefetch_tune(folder, "diagnose", "train.py", "--device", "cpu")

    assert done.returncode == 0, done.stderr
    words = "The shuffle buffer of 100 elements takes less than 0.1 s to fill"
    assert words in " ".join(done.stdout.split())


def test_a_scripts_line_can_be_read_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    given = ["--name", "two words", "--list", "a,b", "--rate=0.1"]
    line = compose(catalog.resolve("train.py"), fit=2, args=given, jit=True)

    assert (
        line
        == "train.py,jit=true,fit=2,args=--name%20%27two%20words%27%20--list%20a%2Cb%20--rate=0.1"
    )
    found = Target.parse(line)
    assert (found.main, found.fit, list(found.args), found.is_script) == (
        "train.py",
        2,
        given,
        True,
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/etc/passwd.py", "is outside"),
        ("a/../../b.py", "is outside"),
        ("train.py,fit=0", "fit must be a whole number from 1, not '0'"),
        ("train:rows,fit=2", "is not of the form"),
    ],
)
def test_lines_that_are_refused(
    line: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PipelineError, match=said):
        Target.parse(line)


def test_a_script_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PipelineError, match=r"there is no script 'missing\.py'"):
        catalog.resolve("missing.py")
    assert Target.parse("missing.py").main == "missing.py"


def test_a_record_cannot_have_a_file_elsewhere_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "inside").mkdir()
    monkeypatch.chdir(folder / "inside")
    with pytest.raises(PipelineError, match="is outside"):
        Target.parse("../train.py")


def test_what_follows_two_dashes_belongs_to_the_script() -> None:
    assert parsed(["tune", "train.py", "--", "--trials", "3"]).script_args == ["--trials", "3"]
    assert parsed(["tune", "train.py"]).script_args == []
    with pytest.raises(UsageError, match="only tune, diagnose and run"):
        parsed(["studies", "--", "x"])


def test_a_script_has_its_own_map_and_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PipelineError, match="leave out --map and --model"):
        compose("train.py", "train:double")
    with pytest.raises(PipelineError, match="isn't a training script"):
        compose("data:rows", args=["--size", "3"])
