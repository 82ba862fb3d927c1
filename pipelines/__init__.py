"""Generator pipelines, and the one chain that turns each of them into a `tf.data.Dataset`."""
