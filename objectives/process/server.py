"""The process that forks trials, as the study sees it: it is started, ready or gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from typing import IO

from prefetch_tuning.objectives.process.answer import receive
from prefetch_tuning.objectives.process.keras_backend import why_not_tensorflow
from prefetch_tuning.objectives.process.output import LINES

READY_TIMEOUT_S = 180.0
# -P: a module in the current directory must not shadow this project or its libraries.
SERVER = [sys.executable, "-P", "-m", "prefetch_tuning.objectives.process.fork_server"]


class WorkerError(RuntimeError):
    """The fork server could not be started, so nothing can be measured here."""


class ServerProcess:
    """Starts the fork server, and restarts it if it died.

    Attributes:
        forks: False if the server starts a new interpreter for each trial; known once it is ready.
    """

    def __init__(self, mode: str) -> None:
        """`mode` is "fork", or "spawn" for a new interpreter for each trial."""
        self._mode = mode
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._output: IO[bytes] | None = None
        self._ready = False
        self.forks = True

    @property
    def pid(self) -> int | None:
        """The server's pid; None before `start` and after `end`."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the server, which imports TensorFlow in the background.

        Raises:
            WorkerError: Keras is set to another backend, and importing that might fail.
        """
        if (reason := why_not_tensorflow()) is not None:
            raise WorkerError(reason)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - end() closes it
        with theirs:
            self._process = subprocess.Popen(
                [*SERVER, str(theirs.fileno()), self._mode],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,  # the terminal's Ctrl-C must not reach it
            )
        self._control, self._ready = ours, False

    def connect(self) -> socket.socket:
        """Returns the socket of a ready server, which is restarted if it died.

        Raises:
            WorkerError: the server couldn't be started.
        """
        if self._process is None or self._process.poll() is not None:
            self.end()
            self.start()
        assert self._control is not None
        if not self._ready:
            self._control.settimeout(READY_TIMEOUT_S)
            try:
                hello = receive(self._control)
            except TimeoutError:
                hello = None
            self._control.settimeout(None)
            if hello is None:
                raise WorkerError(
                    "the process that imports TensorFlow did not start; its last output:\n"
                    + self._tail()
                )
            self._ready, self.forks = True, bool(hello["forks"])
        return self._control

    def _tail(self) -> str:
        assert self._output is not None
        self._output.seek(0)
        return "\n".join(self._output.read().decode(errors="replace").splitlines()[-LINES:])

    def end(self) -> None:
        """Ends the server and any trial that is still running."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                # A server that is still importing TensorFlow would notice only seconds later.
                self._process.wait(timeout=5 if self._ready else 0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._output is not None:
            self._output.close()
        self._process = self._control = self._output = None
