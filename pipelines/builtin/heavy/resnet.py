"""`image` and `jpeg` at 128x128 into a residual network, whose step is heavy enough for a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.builtin import image
from prefetch_tuning.pipelines.builtin.image import ImagePipeline
from prefetch_tuning.pipelines.builtin.jpeg import JpegPipeline

SIDE = 128
ENLARGED = 144  # resize to this, then crop back to SIDE, as `jpeg` does from 72 to 64
ELEMENT_SPEC = (tf.TensorSpec((SIDE, SIDE, 3), tf.uint8), tf.TensorSpec((), tf.int32))
BATCH_SIZES = (32, 64, 128, 256)
# A ResNet-18 of twice the width. It has at least the operations of a ResNet-50 in less than half as
# many layers. Each trial traces its step again, which takes longer the more layers there are.
BLOCKS = (2, 2, 2, 2)
WIDTH = 128
# An image is drawn as this many 64-bit numbers. That takes a quarter of the time of drawing its
# bytes, and so about as long as one image of `image`.
WORDS = SIDE * SIDE * 3 // 8


class ImageResnetPipeline(ImagePipeline):
    """128x128 colour images with flip, brightness and resize-crop, into a wide ResNet-18."""

    name = "image-resnet"
    element_spec = ELEMENT_SPEC
    batch_sizes = BATCH_SIZES
    side, enlarged = SIDE, ENLARGED
    width, blocks = WIDTH, BLOCKS

    def generate(self, seed: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yields random images of shape (128, 128, 3), uint8, each with a label from 0 to 9."""
        rng = np.random.default_rng(seed)
        while True:
            words = rng.integers(0, 2**64, WORDS, dtype=np.uint64)
            yield words.view(np.uint8).reshape(SIDE, SIDE, 3), int(rng.integers(image.CLASSES))

    def build_model(self) -> keras.Model:
        return residual_network(image.CLASSES, self.width, self.blocks)


class JpegResnetPipeline(JpegPipeline):
    """Larger JPEG files, decoded to 128x128 and augmented, into a wide ResNet-18."""

    name = "jpeg-resnet"
    element_spec = ELEMENT_SPEC
    batch_sizes = BATCH_SIZES
    folder = "jpeg-192-v1"
    # Fewer strips, so a file fits into one. Each strip has 213 of the 640 pixels.
    file_side, strips = 192, 3
    side, enlarged = SIDE, ENLARGED
    width, blocks = WIDTH, BLOCKS

    def build_model(self) -> keras.Model:
        return residual_network(2 * self.strips, self.width, self.blocks)


def residual_network(classes: int, width: int, blocks: Sequence[int]) -> keras.Model:
    """A compiled residual network for 128x128 images, float32 in [0, 1].

    Source: He et al., Deep Residual Learning for Image Recognition, 2015, for the basic blocks, the
    batch norm after each convolution and the initial weights. The width is as in Zagoruyko and
    Komodakis, Wide Residual Networks, 2016.

    Args:
        classes: the number of classes of the integer labels.
        width: channels of the first blocks; each later group has twice as many on a quarter of
            the pixels.
        blocks: the number of blocks of each group.
    """
    inputs = keras.Input((SIDE, SIDE, 3))
    features = _convolution(inputs, 64, size=7, strides=2)
    features = keras.layers.MaxPooling2D(3, strides=2, padding="same")(features)
    for group, count in enumerate(blocks):
        for number in range(count):
            strides = 2 if group and not number else 1
            features = _basic_block(features, width * 2**group, strides)
    features = keras.layers.GlobalAveragePooling2D()(features)
    # In float32 under any policy, as Keras's guide to mixed precision says: the loss needs it.
    logits = keras.layers.Dense(classes, dtype="float32")(features)
    model = keras.Model(inputs, logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    return model


def _basic_block(inputs: Any, filters: int, strides: int) -> Any:
    """Two convolutions and a shortcut, which is projected if its shape differs."""
    features = _convolution(inputs, filters, strides=strides)
    features = _convolution(features, filters, activated=False)
    if strides != 1 or inputs.shape[-1] != filters:
        inputs = _convolution(inputs, filters, size=1, strides=strides, activated=False)
    return keras.layers.ReLU()(keras.layers.Add()([features, inputs]))


def _convolution(
    inputs: Any, filters: int, *, size: int = 3, strides: int = 1, activated: bool = True
) -> Any:
    features = keras.layers.Conv2D(
        filters,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(inputs)
    features = keras.layers.BatchNormalization()(features)
    return keras.layers.ReLU()(features) if activated else features
