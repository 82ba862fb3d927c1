"""Programs on one host take turns, one trial at a time: two at once would measure each other."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# A user who waits longer for another program's trial is told why.
NOTICEABLE_S = 1.0
TURNS = "another prefetch-tune measures on this host; the two take turns, one trial at a time"


@contextlib.contextmanager
def host_lock(waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lets only one trial be measured per host.

    `waiting` is called if another program has the lock.
    """
    lock = FileLock(Path(tempfile.gettempdir()) / "prefetch-tuning.lock", mode=0o666)
    try:
        lock.acquire(timeout=NOTICEABLE_S)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
