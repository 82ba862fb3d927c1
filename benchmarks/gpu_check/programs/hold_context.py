"""Keeps a context on the GPU without computing anything, until it is killed."""

from __future__ import annotations

import sys

import tensorflow as tf


def main() -> None:
    """Prints "ready" once the context is there."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.list_logical_devices("GPU")  # creates the context
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
