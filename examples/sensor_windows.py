"""Windows of a sensor's signal, a model with its own train_step, and validation data."""

from functools import partial

import keras
import numpy as np
import tensorflow as tf

WINDOW = 128


def windows(signal, step):
    for begin in range(0, len(signal) - WINDOW, step):
        window = signal[begin : begin + WINDOW]
        yield window, np.float32(window[-1] > window[0])


class Detector(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(32, activation="relu")
        self.out = keras.layers.Dense(1)

    def call(self, inputs):
        return self.out(self.hidden(inputs))

    def train_step(self, data):
        inputs, labels = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=labels, y_pred=self(inputs, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


signature = (tf.TensorSpec(WINDOW, tf.float32), tf.TensorSpec((), tf.float32))
signal = np.cumsum(np.random.default_rng(0).normal(size=40_000)).astype(np.float32)
training = tf.data.Dataset.from_generator(
    partial(windows, signal[:36_000], 2), output_signature=signature
)
validation = tf.data.Dataset.from_generator(
    partial(windows, signal[36_000:], 16), output_signature=signature
)
training = training.map(lambda window, label: (window - tf.reduce_mean(window), label))
training = training.repeat().batch(32)

model = Detector()
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(training, steps_per_epoch=400, epochs=2, validation_data=validation.batch(32))
