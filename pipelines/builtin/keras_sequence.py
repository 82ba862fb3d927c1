"""A `PyDataset`, as Keras users write it, that reads and decodes JPEG files itself."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from prefetch_tuning.pipelines.builtin.jpeg import FOLDER, JpegPipeline, read_image, write_files
from prefetch_tuning.pipelines.builtin.support.cache import made_once


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """The `jpeg` pipeline's files in batches, in a different order each epoch.

    The last batch of an epoch is smaller if `batch_size` doesn't divide the number of files.
    """

    name = "keras_sequence"

    def __init__(self, batch_size: int = 32, seed: int = 0, **kwargs: Any) -> None:
        """Lists the files; `kwargs` are Keras's: workers, use_multiprocessing, max_queue_size."""
        super().__init__(**kwargs)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        self.files = sorted(made_once(FOLDER, write_files).glob("*/*.jpg"))
        self.labels = np.array([int(file.parent.name) for file in self.files], np.int32)
        self._shuffle()

    def __len__(self) -> int:
        return math.ceil(len(self.files) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of shape (batch, 64, 64, 3), float32 in [0, 1], and classes (batch,), int32."""
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        images = np.stack([read_image(self.files[i]) for i in chosen])
        return images.astype(np.float32) / 255.0, self.labels[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        # Only the seed and the epoch count, so a batch is the same whichever worker makes it.
        rng = np.random.default_rng((self.seed, self.epoch))
        self._order = rng.permutation(len(self.files))


def build_model() -> keras.Model:
    """The `jpeg` pipeline's model, which takes the same images."""
    return JpegPipeline().build_model()
