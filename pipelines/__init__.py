"""What is fed: generator pipelines and the one chain that turns them into a `tf.data.Dataset`."""
