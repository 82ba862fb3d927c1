"""Watches the input pipeline of a training that runs."""
