"""A grid of configurations: its points, their measurement and the best that it finds."""
