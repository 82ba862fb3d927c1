"""Texts of different lengths, tokenised in a callable object, in padded batches of dicts."""

import re
import zlib

import keras
import tensorflow as tf

WORDS = 5_000


class Reviews:
    def __init__(self, count):
        self.count = count

    def __call__(self):
        for number in range(self.count):
            text = f"review {number} says " + "good bad fine " * (number % 23 + 1)
            words = re.findall(r"\w+", text.lower())
            ids = [zlib.crc32(word.encode()) % (WORDS - 1) + 1 for word in words]
            yield {"ids": ids, "length": len(ids)}, number % 2


signature = (
    {"ids": tf.TensorSpec([None], tf.int32), "length": tf.TensorSpec((), tf.float32)},
    tf.TensorSpec((), tf.int32),
)
dataset = tf.data.Dataset.from_generator(Reviews(12_000), output_signature=signature)
dataset = dataset.filter(lambda features, label: features["length"] > 6.0)
dataset = dataset.padded_batch(32).prefetch(1)

inputs = {
    "ids": keras.Input((None,), dtype="int32", name="ids"),
    "length": keras.Input((), name="length"),
}
words = keras.layers.Embedding(WORDS, 16, mask_zero=True)(inputs["ids"])
pooled = keras.layers.GlobalAveragePooling1D()(words)
length = keras.layers.Reshape((1,))(inputs["length"])
outputs = keras.layers.Dense(1)(keras.layers.Concatenate()([pooled, length]))
model = keras.Model(inputs, outputs)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
model.fit(dataset, epochs=2)
