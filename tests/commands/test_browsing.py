"""Stored studies and runs, as the command line and a search show them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import Summary
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import StudyAttr
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.conftest import ROOT
from tests.support.fakes import INFO, measurement
from tests.test_cli import prefetch_tune

BEGAN = 1_700_000_000.0
SPEC = TrialSpec(
    pipeline="prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    config=PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
)


class Kept:
    """A folder with two studies: one won near its limit, the other has a trial out of memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = store = Store.choose(folder, None, None)
        store.create()
        self.tracker = Tracker(store)
        self.won = self.tracker.start_study("simple", "won", {"pipeline": "simple"})
        self.waiting = self.tracker.log_trial(
            self.won,
            "#00",
            SPEC,
            measurement(),
            "complete",
            {"kind": "trial"},
            BEGAN,
            {"accelerator/utilisation": 0.5},
        )
        self.finish(self.won, 0.95, "faster")
        self.lost = self.tracker.start_study("simple", "lost", {"pipeline": "simple"})
        failure = TrialFailure(kind="out_of_memory", detail="used 9 MiB")
        self.failed = self.tracker.log_trial(
            self.lost, "#00", SPEC, failure, "failed", {"kind": "trial"}, BEGAN
        )
        self.finish(self.lost, 0.5, "slower")

    def finish(self, run_id: str, fraction: float, verdict: str) -> None:
        metrics = {"limit/fraction": fraction, "trials/complete": 3.0, "trials/failed": 1.0}
        study = "won" if run_id == self.won else "lost"
        in_optuna = optuna.create_study(study_name=study, storage=self.store.storage_url)
        in_optuna.set_user_attr(StudyAttr.INFO, {**INFO.model_dump(mode="json"), "name": "simple"})
        summary = Summary(trials=4, verdict=verdict, recommended=str(SPEC.config))
        StudyAttributes(in_optuna).summary = summary
        self.tracker.finish_study(
            run_id,
            interrupted=False,
            params={},
            metrics=metrics,
            tags={"verdict": verdict, "recommended.config": str(SPEC.config)},
            texts={},
        )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


def test_the_searches_of_the_docs_find_what_they_say(kept: Kept) -> None:
    page = (ROOT / "docs" / "report.md").read_text()
    searches = re.findall(r"^\| `(.*)` \| .* \|$", page.split("## Searching the runs")[1], re.M)
    expected = [{kept.won}, {kept.won}, {kept.failed}, {kept.waiting}]

    found = [{run.run_id for run in kept.tracker.search("simple", text)} for text in searches]
    assert dict(zip(searches, found, strict=True)) == dict(zip(searches, expected, strict=True))


def test_studies_are_listed_the_latest_first(kept: Kept) -> None:
    done = prefetch_tune(kept.folder, "studies")

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if "simple" in line]
    assert [line[:4] for line in lines] == [
        ["lost", "simple", "4", "slower"],
        ["won", "simple", "4", "faster"],
    ]


def test_the_studies_of_a_server_are_listed_from_there(kept: Kept) -> None:
    database = f"sqlite:///{kept.folder}/mlruns/mlflow.db"
    elsewhere = kept.folder / "elsewhere"
    elsewhere.mkdir()
    done = prefetch_tune(elsewhere, "studies", "--tracking-uri", database, "--storage", "sqlite://")

    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if "simple" in line]
    assert [line[:4] for line in lines] == [
        ["lost", "simple", "4", "slower"],
        ["won", "simple", "4", "faster"],
    ]


def test_a_study_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    """One was killed while it began, another version made the other one."""
    kept = Kept(tmp_path)
    for name in ("begun", "newer"):
        study = optuna.create_study(study_name=name, storage=kept.store.storage_url)
        study.set_user_attr(StudyAttr.INFO, {**INFO.model_dump(mode="json"), "name": "simple"})
    study.set_user_attr(StudyAttr.SETTINGS, {"another": "version"})

    done = prefetch_tune(tmp_path, "studies")
    assert done.returncode == 0
    assert done.stdout.count("unreadable") == 2
    assert "won" in done.stdout


def test_listing_studies_imports_no_mlflow(kept: Kept) -> None:
    code = (
        "import sys; from prefetch_tuning.experiments.cli import main; main(['studies']); "
        "sys.exit('mlflow' in sys.modules or 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=kept.folder, check=False)

    assert done.returncode == 0


def test_a_run_is_shown_by_its_id(kept: Kept) -> None:
    done = prefetch_tune(kept.folder, "show", kept.waiting)

    assert done.returncode == 0, done.stderr
    assert f"#00: FINISHED, run {kept.waiting}" in done.stdout
    assert re.search(r"throughput/examples_per_s +1,000", done.stdout)
    assert re.search(r"batch_size +64", done.stdout)


def test_what_is_not_there_is_one_line(kept: Kept) -> None:
    done = prefetch_tune(kept.folder, "show", "nobody")

    assert done.returncode == 2
    assert done.stderr.startswith("error: no study named 'nobody' in sqlite:///")
    assert done.stderr.count("\n") == 1


def test_nothing_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    done = prefetch_tune(tmp_path, "studies")

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []
