"""A study as a competent user writes it in an afternoon, with Optuna and MLflow as they are.

naive_study.py TARGET FOLDER TRIALS SEED fresh|here '[32, 64]'

`fresh` starts an interpreter per trial, `here` runs all trials in this process.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import optuna
import psutil

MOST_PREFETCH, MOST_CALLS, TIMEOUT_S = 64, 16, 120
TRIAL = Path(__file__).with_name("naive_trial.py")


def main(target: str, folder: str, trials: str, seed: str, how: str, sizes: str) -> None:
    """Runs the study; writes a JSON line per trial, and the best settings."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("naive")
    study = optuna.create_study(
        direction="maximize",
        storage=f"sqlite:///{folder}/optuna.db",
        sampler=optuna.samplers.TPESampler(seed=int(seed)),
    )

    def objective(trial: optuna.Trial) -> float:
        begin = time.perf_counter()
        settings = {
            "batch_size": trial.suggest_categorical("batch_size", json.loads(sizes)),
            "prefetch": trial.suggest_int("prefetch", 1, MOST_PREFETCH, log=True),
            "calls": trial.suggest_int("calls", 1, MOST_CALLS, log=True),
        }
        with mlflow.start_run():
            mlflow.log_params(settings)
            found = _fresh(target, settings) if how == "fresh" else _here(target, settings)
            mlflow.log_metric("examples_per_s", found["examples_per_s"])
        said = {
            "settings": settings,
            **found,
            "seconds": time.perf_counter() - begin,
            "resident_mib": psutil.Process().memory_info().rss / 2**20,
        }
        print(json.dumps(said), flush=True)
        return found["examples_per_s"]

    study.optimize(objective, n_trials=int(trials))
    print(json.dumps({"best": study.best_params}), flush=True)


def _fresh(target: str, settings: dict[str, Any]) -> dict[str, float]:
    command = [sys.executable, str(TRIAL), target, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _here(target: str, settings: dict[str, Any]) -> dict[str, float]:
    trial = importlib.import_module("naive_trial")  # beside this file; it imports TensorFlow
    found: dict[str, float] = trial.measured(target, **settings)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
