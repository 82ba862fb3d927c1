"""From a generator to batches: the one tf.data chain and what starts the generator for it."""
