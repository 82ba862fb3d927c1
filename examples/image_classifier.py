"""Images that a generator makes, two maps around the batch, and settings from the command line."""

import argparse

import keras
import numpy as np
import tensorflow as tf

SIDE, CLASSES = 64, 10


def augment(image, label):
    image = tf.cast(image, tf.float32) / 255.0
    image = tf.image.resize(image, (SIDE // 2, SIDE // 2))
    return tf.image.adjust_contrast(image, 1.2), label


def standardise(images, labels):
    mean = tf.reduce_mean(images, axis=(1, 2, 3), keepdims=True)
    return images - mean, labels


def make_model():
    model = keras.Sequential(
        [
            keras.Input((SIDE // 2, SIDE // 2, 3)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()

    def images():
        rng = np.random.default_rng(0)
        for _ in range(options.images):
            label = rng.integers(CLASSES)
            yield rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8), label

    signature = (
        tf.TensorSpec((SIDE, SIDE, 3), tf.uint8),
        tf.TensorSpec((), tf.int64),
    )
    dataset = tf.data.Dataset.from_generator(images, output_signature=signature)
    dataset = dataset.shuffle(256).map(augment).batch(32, drop_remainder=True).map(standardise)
    make_model().fit(dataset, epochs=options.epochs)


if __name__ == "__main__":
    main()
