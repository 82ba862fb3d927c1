"""Rows of an SQLite table, read with pandas in chunks and yielded one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from prefetch_tuning.pipelines.builtin.support.cache import made_once
from prefetch_tuning.pipelines.source import GeneratorPipeline

FOLDER = "tabular-v1"  # raise the version when the output of write_database changes
FILE = "biopsies.sqlite3"
ROWS = 60_000
FEATURES = 30
CLASSES = 2
NOISE = 0.05  # of each column's standard deviation
CHUNK_ROWS = 1_000

# Row numbers run from 1 without a gap. SQLite skips the rows of other shards by their numbers, so
# their columns are neither decoded nor handed to Python.
QUERY = """
    SELECT * FROM biopsies
    WHERE rowid BETWEEN :low AND :high AND (rowid - :low) % :shards = :remainder
    ORDER BY rowid
"""


class TabularPipeline(GeneratorPipeline):
    """Rows of 30 numbers from an SQLite file, read with pandas and standardised, into an MLP."""

    name = "tabular"
    element_spec = (tf.TensorSpec((FEATURES,), tf.float32), tf.TensorSpec((), tf.int32))
    batch_sizes = (32, 64, 128, 256)

    def __init__(self) -> None:
        self._file: Path | None = None
        self._rows = 0
        self._mean = self._spread = np.empty(0, np.float32)

    def prepare(self) -> None:
        """Makes the file if it doesn't exist yet, and reads the statistics of its columns.

        A second call does nothing.

        Raises:
            PipelineError: the file cannot be written.
        """
        if self._file is not None:
            return
        file = made_once(FOLDER, write_database) / FILE
        with closing(_connect(file)) as database:
            columns = pd.read_sql_query("SELECT mean, spread FROM columns ORDER BY rowid", database)
            (self._rows,) = database.execute("SELECT max(rowid) FROM biopsies").fetchone()
        self._mean = columns["mean"].to_numpy(np.float32)
        self._spread = columns["spread"].to_numpy(np.float32)
        self._file = file  # last, because another thread may check whether all is ready

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields each row once: its numbers, float32 of shape (30,), and 1 if benign or 0 if not.

        The generator is finite: one pass over the table in its stored order, which is random. The
        seed chooses the row to begin with, and after the last row comes the first. The shard at
        `shard_index` of `shard_count` fetches only its own rows.

        Raises:
            ValueError: there is no such shard.
        """
        if not 0 <= shard_index < shard_count:
            raise ValueError(f"there is no shard {shard_index} of {shard_count}; the first is 0")
        self.prepare()
        assert self._file is not None
        start = int(np.random.default_rng(seed).integers(1, self._rows + 1))
        with closing(_connect(self._file)) as database:
            for low, high, position in (
                (start, self._rows, 0),
                (1, start - 1, self._rows - start + 1),
            ):
                limits = {"low": low, "high": high, "shards": shard_count}
                limits["remainder"] = (shard_index - position) % shard_count
                for chunk in pd.read_sql_query(
                    QUERY, database, params=limits, chunksize=CHUNK_ROWS
                ):
                    for row in chunk.itertuples(index=False):
                        yield np.array(row[:-1], np.float32), int(row[-1])

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
    def transform(self, *element: Any) -> Any:
        """Standardises the features with the statistics of the file's columns; keeps the label."""
        self.prepare()
        features, label = element
        return (features - self._mean) / self._spread, label

    def build_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(CLASSES),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        return model


def _connect(file: Path) -> sqlite3.Connection:
    # tf.data asks for elements one after another, but from whichever of its threads is free.
    return sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, check_same_thread=False)


def write_database(folder: Path) -> None:
    """Writes ROWS rows, drawn from scikit-learn's 569 breast tumours with noise on each number.

    The rows are in the table `biopsies`. The table `columns` has the mean and the standard
    deviation of each column.
    """
    # Imported only to make the file: it takes a second if Keras hasn't imported it already.
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

    rng = np.random.default_rng(0)
    tumours = load_breast_cancer()
    chosen = rng.integers(len(tumours.target), size=ROWS)
    noise = rng.normal(0.0, NOISE * tumours.data.std(axis=0), (ROWS, FEATURES))
    names = [name.replace(" ", "_") for name in tumours.feature_names]
    biopsies = pd.DataFrame(tumours.data[chosen] + noise, columns=names)
    columns = pd.DataFrame({"name": names, "mean": biopsies.mean(), "spread": biopsies.std()})
    biopsies["benign"] = tumours.target[chosen]
    with closing(sqlite3.connect(folder / FILE)) as database:
        biopsies.to_sql("biopsies", database, index=False)
        columns.to_sql("columns", database, index=False)
