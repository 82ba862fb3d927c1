"""A grid of configurations: its points, their measurement, and what it says is best."""
