"""Measures what a trial costs beyond its measuring, as a study grows: growth.py [TRIALS ...].

The measurement is a stub, so what is left is the sampler, Optuna's storage, MLflow and the report.
Run from the checkout: .venv/bin/python benchmarks/growth.py 10 100 1000 5000
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefetch_tuning.experiments.report.publish import close_study
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.settings import StudySettings
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.spool import SpoolingTracker
from prefetch_tuning.experiments.storage.studies import open_study
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.search import Search
from tests.support.fakes import COSTS, INFO, FakeRunner, measurement

SIZES = (10, 100, 1_000, 5_000)
# The mean of so many trials before each size.
OVER = 10
WINDOWS = 12


class Stub(FakeRunner):
    """Answers at once with a made-up measurement."""

    def __init__(self) -> None:
        super().__init__([])
        self._rng = random.Random(0)  # noqa: S311

    def measure(self, spec: object) -> object:  # type: ignore[override]
        del spec
        return measurement(self._rng.uniform(500.0, 2_000.0))


def main(sizes: list[int], *, profile: bool) -> None:
    """Prints a line per size."""
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
        search = Search(study)
        print(
            f"{'trials':>8}{'ms per trial':>14}{'report s':>10}{'Optuna MiB':>12}{'MLflow MiB':>12}"
        )
        done = 0
        for size in sizes:
            times = []
            while done < size:
                begin = time.perf_counter()
                search.run_trial()
                _ = study.kept.best
                times.append(time.perf_counter() - begin)
                done += 1
            if profile:
                with cProfile.Profile() as found:
                    for _ in range(OVER):
                        search.run_trial()
                done += OVER
                pstats.Stats(found).sort_stats("cumulative").print_stats(25)
            begin = time.perf_counter()
            close_study(study.optuna_study, study.run_id, tracker, (1.0, 1.0), interrupted=False)
            report_s = time.perf_counter() - begin
            study.run_id = study.kept.run_id or study.run_id
            files = [folder / "mlruns" / name for name in ("optuna.db", "mlflow.db")]
            mib = ", ".join(f"{file.stat().st_size / 2**20:.1f}" for file in files)
            each = 1e3 * statistics.fmean(times[-OVER:])
            print(f"{size:8}{each:14.1f}{report_s:10.2f}{mib:>20}", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("trials", nargs="*", type=int, default=list(SIZES))
    arguments.add_argument("--profile", action="store_true", help="also show where the time goes")
    given = arguments.parse_args()
    main(given.trials or list(SIZES), profile=given.profile)
