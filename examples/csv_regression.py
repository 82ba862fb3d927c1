"""Rows of a CSV file, parsed in Python one by one, for a small regression."""

import csv
import random
import tempfile

import keras
import tensorflow as tf

COLUMNS, ROWS = 20, 20_000

table = tempfile.NamedTemporaryFile("w", suffix=".csv", newline="")
writer = csv.writer(table)
random.seed(0)
for _ in range(ROWS):
    writer.writerow([f"{random.random():.4f}" for _ in range(COLUMNS + 1)])
table.flush()


def rows():
    with open(table.name, newline="") as file:
        for row in csv.reader(file):
            numbers = [float(value) for value in row]
            yield numbers[:-1], numbers[-1]


dataset = tf.data.Dataset.from_generator(
    rows, output_types=(tf.float32, tf.float32), output_shapes=((COLUMNS,), ())
)
dataset = dataset.shuffle(2_000, seed=1).batch(64).prefetch(tf.data.AUTOTUNE)

model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)])
model.compile(optimizer="adam", loss="mse")
model.fit(dataset, epochs=3)
