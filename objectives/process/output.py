"""What a trial's process writes to stdout and stderr: drained at once, only the end is kept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Self

LINES, BYTES = 100, 16_384
# The more the pipe holds, the more rarely a process that writes a lot waits for the runner.
PIPE_BYTES = 2**20


class Output:
    """The read end of a pipe, and the last of what came through it.

    A file would grow as long as the process writes. Use as a context manager, which closes the
    pipe: who still writes to it then gets an error.

    Attributes:
        write_end: the descriptor for the process; `started` closes it here.
        count: bytes that were read so far.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        with contextlib.suppress(OSError):  # over the user's limit for pipes
            fcntl.fcntl(self._read_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._kept = b""
        self.count = 0
        self.is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.started()
        os.close(self._read_end)

    def fileno(self) -> int:
        """The read end, for `select` while `is_open`."""
        return self._read_end

    def started(self) -> None:
        """Closes the write end here, because the process has it now."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def drain(self) -> None:
        """Reads what is there without waiting for more."""
        with contextlib.suppress(BlockingIOError):
            # At most one full pipe per call, so a process that never stops writing holds up nobody.
            for _ in range(PIPE_BYTES // BYTES):
                part = os.read(self._read_end, BYTES)
                if not part:
                    self.is_open = False
                    return
                self.count += len(part)
                self._kept = (self._kept + part)[-BYTES:]

    @property
    def tail(self) -> str:
        """The last lines, with what is there now."""
        self.drain()
        return "\n".join(self._kept.decode(errors="replace").splitlines()[-LINES:])
