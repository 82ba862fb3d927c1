"""Times some steps of a script's `fit`, with its own chain or another, and ends the process."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import keras

from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.fit import Changes, FitCall
from prefetch_tuning.pipelines.script.scratch import remove_scratch
from prefetch_tuning.pipelines.script.session import (
    run_script,
    use_scratch_stores,
)
from prefetch_tuning.pipelines.script.tuned import changes
from prefetch_tuning.pipelines.target import Target

# The first steps compile the model and fill buffers.
FIRST_STEPS = 5


def time_fit(target: Target, config: PipelineConfig, steps: int, answer: int) -> None:
    """Writes the rate of `steps` steps as JSON to the descriptor `answer`, and ends the process.

    Raises:
        PipelineError: the script doesn't get to its `fit`.
    """

    def reached(call: FitCall) -> Changes:
        timer = _Timer(steps, config.batch_size, answer)
        callbacks = [*(call.arguments.get("callbacks") or []), timer]
        return {**changes(Path(target.main), call, config), "callbacks": callbacks}

    use_scratch_stores(Path(target.main))
    keras.utils.set_random_seed(0)
    try:
        run_script(target, reached)
    finally:
        remove_scratch()  # of a script that failed


class _Timer(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Ends the process after some steps, with their rate."""

    def __init__(self, steps: int, batch_size: int, answer: int) -> None:
        super().__init__()
        self._steps, self._batch_size, self._answer = steps, batch_size, answer
        self._done = 0
        self._begin = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del batch, logs
        self._done += int(self.model.steps_per_execution)
        if self._begin == 0.0 and self._done >= FIRST_STEPS:
            self._begin, self._done = time.perf_counter(), 0
        elif self._done >= self._steps:
            self._end()

    def on_train_end(self, logs: Any = None) -> None:
        """A shorter training is timed to its end."""
        del logs
        if self._begin and self._done:
            self._end()

    def _end(self) -> None:
        seconds = time.perf_counter() - self._begin
        rate = self._done * self._batch_size / seconds
        remove_scratch()
        with os.fdopen(self._answer, "w") as pipe:
            pipe.write(json.dumps({"examples_per_s": rate, "steps": self._done}))
        os._exit(0)
