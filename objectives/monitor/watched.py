"""`watch(dataset)`: measures how long a loop in Python waits for its batches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from prefetch_tuning.objectives.monitor.epochs import Epochs
from prefetch_tuning.objectives.monitor.meter import Meter
from prefetch_tuning.objectives.monitor.run_log import RunLog
from prefetch_tuning.objectives.monitor.watchdog import Watchdog

Batch = TypeVar("Batch")


class Watched(Epochs, Generic[Batch]):
    """An iterable that yields another one's batches and times the wait for each.

    Each pass over it counts as an epoch. What the loop does with a batch counts as its step. If
    TensorFlow or PyTorch has a GPU, one step in 50 is timed, with the GPU idle before and after it.
    """

    def __init__(
        self, batches: Iterable[Batch], log_every_s: float, say: Callable[[str], None]
    ) -> None:
        super().__init__(say)
        self._batches, self._log_every_s = batches, log_every_s
        self._watchdog: Watchdog | None = None

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]  # it says so itself if it has none

    def __iter__(self) -> Iterator[Batch]:
        meter = Meter(time.monotonic, _synchronise())
        # A leak may need many epochs to show, and MLflow's steps count all epochs.
        if self._watchdog is None:
            log = RunLog(self._say)
            self._watchdog = Watchdog(meter, log, self._log_every_s, self._say)
        else:
            self._watchdog.meter = meter
            self._watchdog.start()
        watchdog = self._watchdog
        try:
            iterator = iter(self._batches)
            while True:
                meter.begin()
                begin = time.monotonic()
                try:
                    batch = next(iterator)
                except StopIteration:
                    break
                wait_s = time.monotonic() - begin
                meter.began_at = None  # from here on, a long time is the loop's own
                yield batch
                watchdog.add(meter.end(wait_s, examples_of(batch)))
        finally:
            watchdog.stop()
            self.ended(meter)


def watch(
    batches: Iterable[Batch], *, log_every_s: float = 10.0, say: Callable[[str], None] = print
) -> Watched[Batch]:
    """Measures how long a training loop waits for its batches.

    Write `for batch in watch(dataset): ...`.

    It works for whatever a loop in Python iterates over: a tf.data dataset, a PyTorch DataLoader,
    a generator. It prints one line per epoch, and logs to the MLflow run that is active when the
    first epoch begins, if there is one.

    Args:
        batches: an iterable of batches: arrays or tensors, or nested tuples, lists or dicts of
            them, whose leading dimension is the number of examples.
        log_every_s: seconds between two values in MLflow.
        say: takes each line to show.
    """
    return Watched(batches, log_every_s, say)


def examples_of(batch: Any) -> int:
    """Examples of a batch: the leading dimension of its first array; 1 if it has none."""
    while isinstance(batch, dict | list | tuple):
        if not batch:
            return 1
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    shape: Any = getattr(batch, "shape", ())
    return int(shape[0]) if len(shape) else 1


def _synchronise() -> Callable[[], None] | None:
    """What waits for the GPU that TensorFlow or PyTorch uses; None without one.

    It imports neither: the loop has imported what it uses.
    """
    tf: Any = sys.modules.get("tensorflow")
    torch: Any = sys.modules.get("torch")
    found: Callable[[], None] | None = None
    if tf is not None and tf.config.list_logical_devices("GPU"):
        found = tf.test.experimental.sync_devices
    elif torch is not None and torch.cuda.is_initialized():
        found = torch.cuda.synchronize
    return found
