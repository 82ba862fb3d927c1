"""What a trial costs beyond its measuring as a study grows; the measurement is a stub.

Run from the checkout: .venv/bin/python -m benchmarks.side_by_side.growth.study 10 100 1000
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from pydantic import BaseModel

from benchmarks.side_by_side.growth.exclusive import Exclusive
from prefetch_tuning.experiments.report.publish import concluded, publish
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.spool import SpoolingTracker
from prefetch_tuning.experiments.storage.studies import open_study
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.search import Search
from tests.support.fakes import COSTS, INFO, FakeRunner, measurement
from tests.support.mlflow_server import MlflowServer

SIZES = (10, 100, 1_000, 5_000)
# The mean of so many trials before each size.
OVER = 10
# The UI's request, so often.
ANSWERS = 3
SAMPLER, STORAGE, MLFLOW, REST = "sampler", "Optuna's storage", "MLflow", "the rest"
SAMPLING = ("infer_relative_search_space", "sample_relative", "sample_independent", "after_trial")
STORING = (
    "create_new_trial",
    "get_all_trials",
    "get_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
)


class Size(BaseModel):
    """A study of `trials` trials.

    Attributes:
        parts_ms: milliseconds of the latest trials, by what takes them.
        report_s: seconds of the report.
        optuna_mib, mlflow_mib: sizes of the databases.
        table_s: seconds until MLflow's server answers the request of the UI's runs table.
    """

    trials: int
    parts_ms: dict[str, float]
    report_s: float
    optuna_mib: float
    mlflow_mib: float
    table_s: float

    @property
    def trial_ms(self) -> float:
        """Milliseconds per trial in all."""
        return sum(self.parts_ms.values())


class Stub(FakeRunner):
    """Answers at once with a made-up measurement."""

    def __init__(self) -> None:
        super().__init__([])
        self._rng = random.Random(0)  # noqa: S311

    def measure(self, spec: object) -> object:  # type: ignore[override]
        del spec
        return measurement(self._rng.uniform(500.0, 2_000.0))


def grown(sizes: Sequence[int]) -> Iterator[Size]:
    """Runs a study up to each size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store.choose(folder, None, None)
        store.create()
        settings = StudySettings(name="growth", objective="throughput")
        tracker = SpoolingTracker(store, lambda _: None, folder)
        study = PipelineStudy(
            open_study(settings, INFO, store), INFO, settings, Stub(), tracker, {"pipeline": "m"}
        )
        study.begin()
        study.kept.diagnosis = diagnose(COSTS, 2)
        search, parts = Search(study), Exclusive()
        search.begin()
        optuna_study = study.optuna_study
        parts.count(SAMPLER, optuna_study.sampler, *SAMPLING)
        parts.count(STORAGE, optuna_study._storage, *STORING)
        parts.count(MLFLOW, tracker, "log_trial")
        parts.count(REST, search, "run_trial")
        done = 0
        for size in sizes:
            while done < size:
                if done == size - OVER:
                    parts.seconds.clear()
                search.run_trial()
                done += 1
            parts_ms = {part: 1e3 * s / OVER for part, s in parts.seconds.items()}
            begin = time.perf_counter()
            record = concluded(optuna_study, (1.0, 1.0))
            publish(record, optuna_study, study.run_id, tracker, interrupted=False)
            report_s = time.perf_counter() - begin
            study.run_id = study.kept.run_id or study.run_id
            files = [folder / "mlruns" / file for file in ("optuna.db", "mlflow.db")]
            optuna_mib, mlflow_mib = (file.stat().st_size / 2**20 for file in files)
            yield Size(
                trials=size,
                parts_ms=parts_ms,
                report_s=report_s,
                optuna_mib=optuna_mib,
                mlflow_mib=mlflow_mib,
                table_s=_table_s(folder, store, study.run_id),
            )


def _table_s(folder: Path, store: Store, run_id: str) -> float:
    """Seconds of what the UI asks for to show an experiment's runs: the latest hundred."""
    experiment = MlflowClient(tracking_uri=store.tracking_uri).get_run(run_id).info.experiment_id
    server = MlflowServer(folder, store.tracking_uri)
    server.start()
    try:
        asked = {
            "experiment_ids": [experiment],
            "max_results": 100,
            "order_by": ["attributes.start_time DESC"],
        }
        request = urllib.request.Request(  # noqa: S310
            f"{server.address}/ajax-api/2.0/mlflow/runs/search",
            data=json.dumps(asked).encode(),
            headers={"Content-Type": "application/json"},
        )
        _answer_s(request)  # a server's first answer takes seconds, whatever is asked
        return statistics.median(_answer_s(request) for _ in range(ANSWERS))
    finally:
        server.kill()


def _answer_s(request: urllib.request.Request) -> float:
    begin = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        json.load(answer)
    return time.perf_counter() - begin


def table(sizes: Sequence[Size]) -> Iterator[str]:
    """A Markdown table with a row per size."""
    names = list(dict.fromkeys(name for size in sizes for name in size.parts_ms))
    heads = [*(f"{name}, ms" for name in names), "in all, ms", "report, s"]
    heads += ["Optuna, MiB", "MLflow, MiB", "UI's runs table, s"]
    yield f"| trials | {' | '.join(heads)} |"
    yield "|---:|" + "---:|" * len(heads)
    for size in sizes:
        cells = [f"{size.parts_ms.get(name, 0.0):.0f}" for name in names]
        cells += [f"{size.trial_ms:.0f}", f"{size.report_s:.1f}"]
        cells += [f"{size.optuna_mib:.1f}", f"{size.mlflow_mib:.1f}", f"{size.table_s:.2f}"]
        yield f"| {size.trials:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join(table(list(grown([int(each) for each in sys.argv[1:]] or SIZES)))))
