"""The heavy pipelines: their images and model, without a training step, which takes minutes."""

from __future__ import annotations

from itertools import islice

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.pipelines.builtin import image
from prefetch_tuning.pipelines.builtin.heavy.resnet import (
    SIDE,
    ImageResnetPipeline,
    JpegResnetPipeline,
    residual_network,
)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return ImageResnetPipeline().build_model()


def test_random_images_use_every_byte_and_can_be_changed() -> None:
    pictures = [picture for picture, _ in islice(ImageResnetPipeline().generate(0), 4)]

    assert {picture.shape for picture in pictures} == {(SIDE, SIDE, 3)}
    assert np.unique(pictures[0]).size == 256
    assert not np.array_equal(pictures[0], pictures[1])
    pictures[0][0, 0, 0] = 7  # writable, like an array that NumPy drew itself


def test_the_files_are_larger_than_the_images_and_fit_into_their_strips() -> None:
    assert JpegResnetPipeline.file_side > JpegResnetPipeline.side
    assert JpegResnetPipeline.file_side <= 640 // JpegResnetPipeline.strips
    assert JpegResnetPipeline.folder != "jpeg-v1"


def test_the_model_is_a_resnet_of_the_size_that_was_meant(model: keras.Model) -> None:
    kinds = [type(layer).__name__ for layer in model.layers]

    # A stem, 8 blocks of 2, and 4 projected shortcuts: 3 for a new size, 1 for a new width only.
    assert kinds.count("Conv2D") == 1 + 2 * 8 + 4
    assert kinds.count("BatchNormalization") == kinds.count("Conv2D")
    assert kinds.count("Add") == 8
    assert model.output_shape == (None, image.CLASSES)
    assert 40e6 < model.count_params() < 50e6
    initial = model.layers[1].kernel_initializer
    assert isinstance(initial, keras.initializers.HeNormal)


def test_under_mixed_precision_only_the_logits_stay_float32() -> None:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        narrow = residual_network(5, width=4, blocks=(1,))
    finally:
        keras.mixed_precision.set_global_policy(before)

    assert {layer.compute_dtype for layer in narrow.layers[1:-1]} == {"bfloat16"}
    assert narrow(tf.zeros((1, SIDE, SIDE, 3))).dtype == tf.float32
