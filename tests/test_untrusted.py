"""What comes from a server, a database or a file is data: it is checked, and never acted out."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.load_config import load_config
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import Summary
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import StudyAttr
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.pipelines.config import ConfigError
from prefetch_tuning.pipelines.printable import MOST_CHARACTERS, printable
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.target import Target
from tests.support.fakes import INFO
from tests.test_cli import prefetch_tune

# Clears the screen, changes the window's title, turns the text around.
PAINTS = "\x1b[2J\x1b]0;gone\x07\u202etxet\x9b31m"
LONG = 10 * 2**20
CONFIG = {"batch_size": 8, "prefetch_buffer": 1, "map_parallelism": 1}


def is_clean(text: str) -> bool:
    return all(c == "\n" or c.isprintable() for c in text)


def test_control_characters_are_replaced_and_other_scripts_are_kept() -> None:
    assert is_clean(printable(PAINTS))
    assert printable("größe 東京 — ok\n") == "größe 東京 — ok\n"
    assert len(printable("x" * LONG)) < MOST_CHARACTERS + 100
    assert is_clean(str(UsageError(PAINTS)))
    assert is_clean(TrialFailure(kind="generator", detail=PAINTS).detail)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which another user's study has every name that a terminal would act on."""
    folder = tmp_path_factory.mktemp("hostile")
    store = Store.choose(folder, None, None)
    store.create()
    study = optuna.create_study(study_name=f"s{PAINTS}", storage=store.storage_url)
    info = {**INFO.model_dump(mode="json"), "name": PAINTS, "element": "x" * LONG}
    study.set_user_attr(StudyAttr.INFO, info)
    StudyAttributes(study).summary = Summary(trials=1, verdict=PAINTS, recommended="<b>")
    tracker = Tracker(store)
    run_id = tracker.start_study("e", f"r{PAINTS}", {"kind": "study", "pipeline": PAINTS})
    tracker._client.log_param(run_id, "p", PAINTS)
    (folder / "run").write_text(run_id)
    return folder


def test_names_in_a_store_cannot_paint_on_the_terminal(hostile: Path) -> None:
    run_id = (hostile / "run").read_text()
    database = f"sqlite:///{hostile}/mlruns/mlflow.db"
    for command in (
        ["studies"],
        ["studies", "--tracking-uri", database],
        ["show", run_id],
        ["show", "nobody"],
    ):
        done = prefetch_tune(hostile, *command)

        assert is_clean(done.stdout), command
        assert is_clean(done.stderr), command
        assert len(done.stdout + done.stderr) < 100_000


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[1, 2]",
        json.dumps({**CONFIG, "generator_chunk": "../../etc/passwd"}),
        json.dumps({**CONFIG, "generator_chunk": "9" * 5_000}),
        json.dumps({**CONFIG, PAINTS: 1}),
        json.dumps({**CONFIG, "prefetch_buffer": 10**40}),
        '{"batch_size": ' * 50_000,
        json.dumps({**CONFIG, "prefetch_buffer": "x" * LONG}),
    ],
)
def test_a_config_file_is_checked_field_by_field(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)

    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert is_clean(printable(str(error.value)))


@pytest.mark.parametrize(
    "line",
    ["../x.py:f", "/etc/passwd:f", "os:system('x')", "m:f;import os", "a b:c", "m:f,model=../x:g"],
)
def test_a_target_in_a_record_is_a_name_and_nothing_else(line: str) -> None:
    with pytest.raises(PipelineError):
        Target.parse(line)
