"""A folder of JPEG files, read and decoded with PIL. The generator is the bottleneck."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from prefetch_tuning.pipelines.builtin.support.cache import made_once, shuffled_epochs
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

FOLDER = "jpeg-v1"  # raise the version when the output of write_files changes
FILES = 3_000
FILE_SIDE = 96  # pixels of the square files
QUALITY = 90
SIDE = 64
ENLARGED = 72  # resize to this, then crop back to SIDE, which shifts by up to 8 pixels
STRIPS = 5
CLASSES = 2 * STRIPS  # two photographs, each cut into vertical strips


class JpegPipeline(GeneratorPipeline):
    """JPEG files in one folder per class, decoded to 64x64 and augmented, into a conv net.

    Attributes:
        folder: the name of the files' folder in the cache.
        file_side, side, enlarged: sides in pixels of the square files, of the images that they are
            decoded to, and of the enlarged images that are cropped.
        strips: vertical strips that each of the two photographs is cut into, one class each.
    """

    name = "jpeg"
    element_spec = (tf.TensorSpec((SIDE, SIDE, 3), tf.uint8), tf.TensorSpec((), tf.int32))
    batch_sizes = (16, 32, 64, 128)
    folder = FOLDER
    file_side, side, enlarged = FILE_SIDE, SIDE, ENLARGED
    strips = STRIPS

    def __init__(self) -> None:
        self._files: list[Path] = []

    def prepare(self) -> None:
        """Makes the files if they don't exist yet, and lists them; a second call does nothing.

        Raises:
            PipelineError: the files cannot be written, or some of them are missing.
        """
        if self._files:
            return
        folder = made_once(self.folder, self._write_files)
        files = sorted(folder.glob("*/*.jpg"))
        if len(files) != FILES:
            raise PipelineError(
                f"{folder} contains {len(files)} JPEG files instead of {FILES}; delete it, and it "
                "will be made again"
            )
        self._files = files

    def _write_files(self, folder: Path) -> None:
        write_files(folder, self.file_side, self.strips)

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yields images of shape (side, side, 3), uint8, each with its class, from 0 on.

        The shard at `shard_index` of `shard_count` decodes only its own files.
        """
        self.prepare()
        for index in shuffled_epochs(FILES, seed, shard_index, shard_count):
            path = self._files[index]
            yield read_image(path, self.side), int(path.parent.name)

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
    def transform(self, *element: Any) -> Any:
        """Augments one image to float32 in [0, 1] of the same shape; keeps the label.

        The sums of the image's own red and green seed the random numbers. A stateful random op
        would give each element the next number when its thread asks, so the data would depend on
        map_parallelism. Single pixels of a photograph would not do, because skies look alike.
        """
        image, label = element
        seed = tf.reduce_sum(tf.cast(image, tf.int32), axis=(0, 1))[:2]
        image = tf.image.convert_image_dtype(image, tf.float32)
        image = tf.image.stateless_random_flip_left_right(image, seed)
        image = tf.image.stateless_random_brightness(image, 0.2, seed)
        image = tf.image.stateless_random_contrast(image, 0.8, 1.25, seed)
        image = tf.image.resize(image, (self.enlarged, self.enlarged))
        image = tf.image.stateless_random_crop(image, (self.side, self.side, 3), seed)
        return tf.clip_by_value(image, 0.0, 1.0), label

    def build_model(self) -> keras.Model:
        layers: list[Any] = [keras.Input((SIDE, SIDE, 3))]
        for filters in (16, 32, 64):
            layers += [
                keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
            ]
        layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(CLASSES)]
        model = keras.Sequential(layers)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        return model


def read_image(path: Path, side: int = SIDE) -> np.ndarray:
    """Decodes and resizes one file, as users do, to uint8 of shape (side, side, 3)."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((side, side)))


def write_files(folder: Path, file_side: int = FILE_SIDE, strips: int = STRIPS) -> None:
    """Cuts FILES squares out of scikit-learn's two photographs, equally many per class.

    The photograph and the vertical strip that a square lies in (of `strips` per photograph) are
    its class. The positions are random, but the same each time.
    """
    # Imported only to make the files: it takes a second if Keras hasn't imported it already.
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    rng = np.random.default_rng(0)
    photographs: list[np.ndarray] = load_sample_images().images
    classes = len(photographs) * strips
    for label in range(classes):
        photograph = photographs[label // strips]
        height, width, _ = photograph.shape
        strip = width // strips  # pixels
        start = label % strips * strip
        inside = folder / str(label)
        inside.mkdir()
        for number in range(FILES // classes):
            top = int(rng.integers(height - file_side + 1))
            left = start + int(rng.integers(strip - file_side + 1))
            square = photograph[top : top + file_side, left : left + file_side]
            Image.fromarray(square).save(inside / f"{number:03}.jpg", quality=QUALITY)
