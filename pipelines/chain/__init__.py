"""The one tf.data chain from a generator to batches, and what starts the generator for it."""
