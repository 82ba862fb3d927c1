"""A PyDataset that reads each batch from a slow disk: here it sleeps for as long."""

import time

import keras
import numpy as np


class Photos(keras.utils.PyDataset):
    def __init__(self, count, batch_size, **kwargs):
        super().__init__(**kwargs)
        self.count, self.batch_size = count, batch_size

    def __len__(self):
        return self.count // self.batch_size

    def __getitem__(self, index):
        time.sleep(0.02)
        rng = np.random.default_rng(index)
        photos = rng.random((self.batch_size, 24, 24, 3), np.float32)
        return photos, rng.integers(0, 5, self.batch_size)


model = keras.Sequential(
    [
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(5),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(Photos(6_400, batch_size=32), epochs=2, shuffle=False)
