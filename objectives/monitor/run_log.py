"""Logs metrics to the MLflow run that is active in the training, if there is one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class RunLog:
    """The active run of the thread that makes this; nothing is logged without one.

    MLflow isn't imported: if the training's own code hasn't imported it, no run is active.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        mlflow: Any = sys.modules.get("mlflow")
        run = mlflow.active_run() if mlflow is not None else None
        self._say = say
        self._run_id: str | None = None if run is None else run.info.run_id
        self._client: Any = None if run is None else mlflow.MlflowClient()
        self._metric: Any = None if run is None else mlflow.entities.Metric

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics at a step; may be called from any thread.

        If the store doesn't take them, says so once and logs no more. The training continues.
        """
        if self._run_id is None:
            return
        now_ms = int(1_000 * time.time())
        entries = [self._metric(name, value, now_ms, step) for name, value in metrics.items()]
        try:
            self._client.log_batch(self._run_id, metrics=entries)
        except Exception as error:
            self._run_id = None
            reason = str(error).strip().split("\n")[0]
            self._say(f"input: MLflow takes no more metrics of this training: {reason}")
