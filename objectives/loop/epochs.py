"""The measured iterator; when it ends, the next epoch begins with a new one, as in `model.fit`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf


class Epochs:
    """One iterator after another over the same dataset.

    Attributes:
        iterator: the one of the current epoch.
        count: epochs begun.
    """

    def __init__(self, begin: Callable[[], Any]) -> None:
        """`begin` makes an epoch's iterator."""
        self._begin = begin
        self._has_given = False
        self.iterator = begin()
        self.count = 1

    def take(self, take: Callable[[Any], Any]) -> tuple[Any, float]:
        """What `take` returns for the iterator, and the seconds that beginning a new epoch took.

        Raises:
            StopIteration, tf.errors.OutOfRangeError: an epoch ended without giving anything.
        """
        began_s = 0.0
        try:
            taken = take(self.iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            if not self._has_given:
                raise
            asked_at = time.perf_counter()
            self._has_given = False
            self.iterator = self._begin()
            self.count += 1
            began_s = time.perf_counter() - asked_at
            taken = take(self.iterator)
        self._has_given = True
        return taken, began_s
