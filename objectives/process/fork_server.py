"""A process that has imported TensorFlow but initialised nothing, and forks one trial at a time.

Importing TensorFlow takes seconds; forking a process that has imported it takes milliseconds. This
isn't `multiprocessing`'s fork server, because that one imports the caller's `__main__` again in
every child: Optuna and MLflow from the command line, a user's whole script from the Python API.

Protocol, over a Unix socket of datagrams: the server sends `{"ready": ..., "forks": true|false}`. A
request is a job's JSON with two descriptors, one for the answer and one for the output. The server
sends `{"pid": N}` and later `{"status": wait status}`. When the other end closes, the server kills
the running trial and exits, so that nothing outlives the study.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import warnings
from pathlib import Path

MAX_REQUEST_BYTES = 65_536
LAZY_MODULES = (
    "prefetch_tuning.objectives.process.worker",
    "prefetch_tuning.pipelines.adapters.functions",
    "keras.src.backend.tensorflow.trainer",
    "tensorflow.python.data.ops.cache_op",
    "tensorflow.python.data.ops.concatenate_op",
    "tensorflow.python.data.ops.flat_map_op",
    "tensorflow.python.data.ops.from_generator_op",
    "tensorflow.python.data.ops.from_tensors_op",
    "tensorflow.python.data.ops.padded_batch_op",
    "tensorflow.python.data.ops.take_op",
)


def main(control_fd: int, mode: str) -> None:
    """Serves until the other end of the socket is closed; `mode` is "fork" or "spawn"."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    control = socket.socket(fileno=control_fd)
    forks = mode == "fork"
    if forks:
        preload()
        forks = not touches_cuda()
    _send(control, {"ready": os.getpid(), "forks": forks})
    while True:
        request, fds, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, 2)
        if not request:
            return
        result_fd, output_fd = fds
        pid = _start_trial(control, request.decode(), result_fd, output_fd, forks=forks)
        os.close(result_fd)
        os.close(output_fd)
        try:
            _send(control, {"pid": pid})
            _send(control, {"status": _wait(control, pid)})
        except OSError:  # the parent exited in the middle of a trial
            _kill_group(pid)
            os.waitpid(pid, 0)
            return


def preload() -> None:
    """Imports everything that a trial needs, so that a fork starts with it.

    Keras and tf.data import some modules only at first use. `LAZY_MODULES` names those that every
    trial would otherwise import again.
    """
    for module in LAZY_MODULES:
        importlib.import_module(module)
    # What is alive now stays alive. Kept out of collections, its pages stay shared with the trials.
    gc.collect()
    gc.freeze()


def touches_cuda() -> bool:
    """Whether this process has an NVIDIA device open; its children couldn't use the GPU then."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).startswith("/dev/nvidia"):
                return True
    return False


def _start_trial(
    control: socket.socket, request: str, result_fd: int, output_fd: int, *, forks: bool
) -> int:
    with warnings.catch_warnings():
        # "multi-threaded, use of fork() may lead to deadlocks": the threads are idle pools of
        # libraries that handle forks. TensorFlow's own threads start in the child.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        control.close()
        os.setsid()  # a separate process group, which the parent can kill as a whole
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(output_fd, 1)
        os.dup2(output_fd, 2)
        if not forks:
            os.set_inheritable(result_fd, True)
            worker = [
                sys.executable,
                "-P",
                "-m",
                "prefetch_tuning.objectives.process.worker",
                str(result_fd),
                request,
            ]
            os.execv(sys.executable, worker)
        from prefetch_tuning.objectives.process import worker as trial

        trial.serve(request, result_fd)
    finally:
        os._exit(1)


def _wait(control: socket.socket, pid: int) -> int:
    """The trial's wait status; raises OSError if the parent closes the socket first."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([control.fileno(), pidfd], [], [])
        if pidfd not in ready:
            raise OSError("the study's process is gone")
        return os.waitpid(pid, 0)[1]
    finally:
        os.close(pidfd)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _send(control: socket.socket, message: dict[str, object]) -> None:
    control.send(json.dumps(message).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
