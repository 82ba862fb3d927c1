"""Keeps the files that built-in pipelines make at first use, and orders them for shards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
from filelock import FileLock

from prefetch_tuning.pipelines.source import PipelineError

VARIABLE = "PREFETCH_TUNING_CACHE"


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Returns the cache's folder `name`, made by `make` if it doesn't exist yet.

    Args:
        name: the folder's name with a version, as in "jpeg-v1"; a changed `make` needs a new one.
        make: writes the files into the empty folder that it is given.

    Raises:
        PipelineError: the folder doesn't exist and cannot be made.
    """
    try:
        root = cache_folder()
        if not (root / name).is_dir():
            root.mkdir(parents=True, exist_ok=True)
            _make(root, name, make)
    except (OSError, RuntimeError) as error:  # Path.home() raises RuntimeError
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"cannot make the files of {name!r}: {reason}; set {VARIABLE} to a writable folder"
        ) from error
    return root / name


def cache_folder() -> Path:
    """`$PREFETCH_TUNING_CACHE`, or the folder `prefetch-tuning` among the user's caches."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that relative paths are ignored.
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "prefetch-tuning"


def shuffled_epochs(items: int, seed: int, shard_index: int, shard_count: int) -> Iterator[int]:
    """Yields the indices of `items` items endlessly, in a new order each epoch.

    A shard has every `shard_count`-th index from `shard_index` on, counted through all epochs. Read
    alternately, the shards give the unsharded stream.

    Raises:
        ValueError: there is no such shard.
    """
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"there is no shard {shard_index} of {shard_count}; the first one is 0")
    rng = np.random.default_rng(seed)
    # Every shard shuffles all indices itself, which is cheap. Only the reading is divided.
    stream = (index for _ in count() for index in rng.permutation(items).tolist())
    return islice(stream, shard_index, None, shard_count)


def _make(root: Path, name: str, make: Callable[[Path], None]) -> None:
    folder, partial = root / name, root / f".{name}.partial"
    with FileLock(root / f".{name}.lock"):
        if folder.is_dir():
            return  # another process made it while this one waited
        # A killed process leaves a half-made folder but no lock. The next process removes it.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
