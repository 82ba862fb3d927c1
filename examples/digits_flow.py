"""Digits that ImageDataGenerator turns and shifts."""

import keras
import numpy as np
from keras.src.legacy.preprocessing.image import ImageDataGenerator

rng = np.random.default_rng(0)
digits, labels = rng.random((3_000, 28, 28, 1), np.float32), rng.integers(0, 10, 3_000)
augmented = ImageDataGenerator(rotation_range=10, width_shift_range=0.1)
flow = augmented.flow(digits, labels, batch_size=32, shuffle=False, seed=0)

model = keras.Sequential(
    [
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(flow, epochs=1)
