"""A Python generator of whole batches, given to fit."""

import keras
import numpy as np


def batches(size):
    rng = np.random.default_rng(0)
    while True:
        features = np.stack([np.sort(rng.random(64, np.float32)) for _ in range(size)])
        yield features, features.mean(axis=1)


model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(batches(64), steps_per_epoch=500, epochs=2)
