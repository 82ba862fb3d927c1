"""How TensorFlow and CUDA say that the GPU's memory did not suffice."""

from __future__ import annotations

import re

# The host's own memory is not meant, though CUDA hands out a part of it: "by allocator cpu" and
# "by allocator gpu_host_bfc" (pinned memory for copies) are the host's.
MESSAGES = re.compile(
    # Of TensorFlow's allocators: "OOM when allocating tensor with shape[...] and type float on
    # /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc".
    r"device:GPU:\d+ by allocator (?!\S*host)"
    r"|\(?GPU_\d+_bfc\)? ran out of memory"
    r"|failed to allocate memory\b"  # eager ops, "[Op:Mul]" behind it
    r"|Dst tensor is not initialized"  # a copy to the GPU that found no room there
    # Of XLA: jit_compile=True, and Keras's "auto" on a GPU.
    r"|Out of memory (?:while trying to allocate|allocating) \S+"
    r"|Failed to allocate request for .* on device ordinal"
    r"|ran out of memory trying to instantiate command buffer"
    # Of CUDA and its libraries, which need memory of their own beside TensorFlow's.
    r"|CUDA_ERROR_OUT_OF_MEMORY"
    r"|cudaErrorMemoryAllocation"
    r"|cuMemAlloc(?:Async)? failed to allocate"
    r"|cudaSetDevice\(\) on GPU:\d+ failed\. Status: out of memory"
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED"
    r"|CUFFT_ALLOC_FAILED"
    r"|CUDNN failed to allocate the scratch space"
    r"|failed to create cublas handle",  # for lack of memory, whatever reason stands behind it
    re.IGNORECASE,
)


def device_memory_line(message: str) -> str | None:
    """The line of an error that says that the GPU's memory did not suffice; None where none does.

    To be asked only of a trial that ran on a GPU: XLA uses the same words on a CPU.

    Args:
        message: the whole of it. Its first line is often just "Graph execution error:".
    """
    lines = (line.strip() for line in message.splitlines())
    return next((line for line in lines if MESSAGES.search(line)), None)
