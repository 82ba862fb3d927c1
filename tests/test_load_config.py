"""Loads a configuration into the user's own code: by run, by pipeline, or from a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefetch_tuning.experiments.errors import StoreError, StudyError
from prefetch_tuning.experiments.load_config import load_config
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import ConfigError, PipelineConfig
from tests.conftest import HANG_S, ROOT
from tests.support.fakes import measurement

CONFIG = PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=2)
BEGAN = 1_700_000_000.0


class Kept:
    """A folder with a study that recommends CONFIG, and a later one that recommends nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        store = Store.choose(folder, None, None)
        store.create()
        self.tracker = Tracker(store)
        self.study = self.finish("a", {"recommended.config": str(CONFIG)})
        self.later = self.finish("b", {})
        self.finish("c", {"recommended.config": str(CONFIG)}, pipeline="rows")
        spec = TrialSpec(
            pipeline="prefetch_tuning.pipelines.builtin.image:ImagePipeline", config=CONFIG
        )
        self.trial = self.tracker.log_trial(
            self.later, "#00", spec, measurement(), "complete", {}, BEGAN
        )

    def finish(self, name: str, tags: dict[str, str], pipeline: str = "image") -> str:
        run_id = self.tracker.start_study(pipeline, name, {})
        texts = {"config.json": CONFIG.model_dump_json()} if tags else {}
        self.tracker.finish_study(
            run_id, interrupted=False, params={}, metrics={}, tags=tags, texts=texts
        )
        return run_id


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def here(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.chdir(kept.folder)
    return kept


def test_by_run_by_pipeline_and_from_a_file_it_is_the_same(here: Kept, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(here.tracker.read_text(here.study, "config.json"))

    assert load_config(f"runs:/{here.study}") == CONFIG
    assert load_config(f"runs:/{here.trial}") == CONFIG
    assert load_config(pipeline="image") == CONFIG
    assert load_config(file) == load_config(str(file)) == CONFIG


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, 'give either a source, like "runs:/RUN_ID"'),
        ({"source": "runs:/nobody"}, "no run 'nobody' in MLflow"),
        ({"source": "nowhere.json"}, "cannot read 'nowhere.json': No such file"),
        ({"pipeline": "noisy"}, "no study of 'noisy' recommends anything yet; run: prefetch-tune"),
    ],
)
def test_what_is_not_there_is_said(here: Kept, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_config(**arguments)


def test_a_study_that_recommends_nothing_has_no_configuration(here: Kept) -> None:
    with pytest.raises(StudyError, match=r"\(b\) has no config\.json"):
        load_config(f"runs:/{here.later}")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("rm -rf /", "does not contain JSON"),
        ("[1]", "does not contain a configuration"),
        (json.dumps({**CONFIG.to_params(), "batch_size": 0}), "batch_size: Input should be"),
        (json.dumps({**CONFIG.to_params(), "shell": "true"}), "shell: Extra inputs"),
    ],
)
def test_a_file_is_data_and_checked(tmp_path: Path, document: str, message: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(document)

    with pytest.raises(ConfigError, match=message):
        load_config(file)


def test_without_a_store_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(StoreError, match=r"there is no .*mlruns"):
        load_config(pipeline="image")
    assert list(tmp_path.iterdir()) == []


def test_the_training_of_the_readme_runs(kept: Kept) -> None:
    readme = (ROOT / "README.md").read_text()
    for file in ("rows.py", "train.py"):
        [code] = re.findall(rf"```python\n(# {file}\n.*?)```", readme, re.DOTALL)
        (kept.folder / file).write_text(code)

    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=kept.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "loss" in done.stdout
