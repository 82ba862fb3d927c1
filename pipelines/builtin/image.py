"""Small images with the usual augmentation. The map costs as much as the generator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline

SIDE = 32
CLASSES = 10
ENLARGED = 36  # resize to this, then crop back to SIDE, which shifts by up to 4 pixels


class ImagePipeline(GeneratorPipeline):
    """32x32 colour images with flip, brightness and resize-crop, into a small conv net.

    Attributes:
        side, enlarged: sides in pixels of the square images, and of the enlarged images that they
            are cropped from.
    """

    name = "image"
    element_spec = (tf.TensorSpec((SIDE, SIDE, 3), tf.uint8), tf.TensorSpec((), tf.int32))
    batch_sizes = (16, 32, 64, 128)
    side, enlarged = SIDE, ENLARGED

    def generate(self, seed: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yields random images of shape (32, 32, 3), uint8, each with a label from 0 to 9."""
        rng = np.random.default_rng(seed)
        while True:
            image = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            yield image, int(rng.integers(CLASSES))

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
    def transform(self, *element: Any) -> Any:
        """Augments one image to float32 in [0, 1] of the same shape; keeps the label.

        The image's own first pixels seed the random numbers. A stateful random op would give each
        element the next number when its thread asks, so the data would depend on map_parallelism.
        """
        image, label = element
        seed = tf.cast(image[0, :2, 0], tf.int32)
        image = tf.image.convert_image_dtype(image, tf.float32)
        image = tf.image.stateless_random_flip_left_right(image, seed)
        image = tf.image.stateless_random_brightness(image, 0.2, seed)
        image = tf.image.resize(image, (self.enlarged, self.enlarged))
        image = tf.image.stateless_random_crop(image, (self.side, self.side, 3), seed)
        return tf.clip_by_value(image, 0.0, 1.0), label

    def build_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 3)),
                keras.layers.Conv2D(16, 3, strides=2, activation="relu"),
                keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(CLASSES),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        return model
