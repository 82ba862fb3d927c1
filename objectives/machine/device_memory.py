"""The messages with which TensorFlow and CUDA say that the GPU ran out of memory."""

from __future__ import annotations

import re

# The host's own memory isn't meant, although CUDA hands out some of it: "by allocator cpu" and "by
# allocator gpu_host_bfc" (pinned memory for copies) are about the host.
MESSAGES = re.compile(
    # From TensorFlow's allocators: "OOM when allocating tensor with shape[...] and type float on
    # /job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc".
    r"device:GPU:\d+ by allocator (?!\S*host)"
    r"|\(?GPU_\d+_bfc\)? ran out of memory"
    r"|failed to allocate memory\b"  # eager ops, followed by "[Op:Mul]"
    r"|Dst tensor is not initialized"  # a copy to the GPU that found no room there
    # From XLA: jit_compile=True, and Keras's "auto" on a GPU.
    r"|Out of memory (?:while trying to allocate|allocating) \S+"
    r"|Failed to allocate request for .* on device ordinal"
    r"|ran out of memory trying to instantiate command buffer"
    # From CUDA and its libraries, which need their own memory beside TensorFlow's.
    r"|CUDA_ERROR_OUT_OF_MEMORY"
    r"|cudaErrorMemoryAllocation"
    r"|cuMemAlloc(?:Async)? failed to allocate"
    r"|cudaSetDevice\(\) on GPU:\d+ failed\. Status: out of memory"
    r"|(?:CUBLAS|CUDNN|CUSPARSE|CUSOLVER)_STATUS_ALLOC_FAILED"
    r"|CUFFT_ALLOC_FAILED"
    r"|CUDNN failed to allocate the scratch space"
    r"|failed to create cublas handle",  # for lack of memory, no matter what reason follows
    re.IGNORECASE,
)


def device_memory_line(message: str) -> str | None:
    """The line of an error that says that the GPU ran out of memory; None if no line says so.

    Call it only for a trial that ran on a GPU: XLA uses the same words on a CPU.

    Args:
        message: the whole message. Its first line is often only "Graph execution error:".
    """
    lines = (line.strip() for line in message.splitlines())
    return next((line for line in lines if MESSAGES.search(line)), None)
