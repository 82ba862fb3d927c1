"""Keys from a generator, and a map that fetches each record: here it sleeps as a store would."""

import time

import keras
import numpy as np
import tensorflow as tf

LATENCY_S = 0.004


class Store:
    def __init__(self, size):
        self.size = size

    def keys(self):
        for number in range(self.size):
            yield number % 997

    def fetch(self, key):
        time.sleep(LATENCY_S)
        return np.full(32, key, np.float32), np.float32(key % 3)


store = Store(2_000)


def fetched(key):
    features, label = tf.numpy_function(store.fetch, [key], (tf.float32, tf.float32))
    return tf.ensure_shape(features, (32,)), tf.ensure_shape(label, ())


dataset = tf.data.Dataset.from_generator(store.keys, output_signature=tf.TensorSpec((), tf.int64))
dataset = dataset.map(fetched, num_parallel_calls=4).batch(32).prefetch(2)

model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(dataset, epochs=2)
