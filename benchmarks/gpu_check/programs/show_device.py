"""Prints what TensorFlow reports about the GPU as one line of JSON, in a separate process."""

from __future__ import annotations

import json

import numpy as np
import tensorflow as tf

SIDE = 512


def main() -> None:
    """Computes a matrix product on the first GPU, or on the processor if there is no GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    built = tf.sysconfig.get_build_info()
    matrix = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32) / SIDE**0.5
    with tf.device("/GPU:0" if gpus else "/CPU:0"):
        product = tf.matmul(matrix, matrix).numpy()
    found = {
        "gpus": len(gpus),
        "name": details.get("device_name", "none"),
        "compute_capability": ".".join(map(str, details.get("compute_capability", ()))),
        "tensorflow": tf.__version__,
        "built_for_cuda": built.get("cuda_version", "none"),
        "built_for_cudnn": built.get("cudnn_version", "none"),
        "error": float(np.max(np.abs(product - matrix @ matrix))),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
