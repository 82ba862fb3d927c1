"""The result of a job: its answer, or how its process ended without one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import time
from pathlib import Path
from typing import IO, Any

from prefetch_tuning.objectives.machine.process_tree import LOOK_EVERY_S, tree_resident_mib
from prefetch_tuning.objectives.measurement import FailureKind
from prefetch_tuning.objectives.process.output import Output

# A trial that hangs has this long to write the stacks of its threads.
STACKS_SIGNAL, STACKS_S = signal.SIGUSR1, 1.0
FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>\S+)$', re.M)
# Files that are never the place of a user's mistake: libraries, and this project but its samples.
LIBRARIES = re.compile(r"/(site|dist)-packages/|/lib/python3|^<")
PROJECT = Path(__file__).parents[2]
POLL_S = 0.25
OUTSIDE_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def await_answer(
    result: IO[bytes],
    control: socket.socket,
    output: Output,
    pid: int,
    deadline_s: float,
    cap_mib: float | None,
) -> tuple[tuple[FailureKind, str] | None, bytes | None]:
    """Reads the answer's line; returns a failure if the deadline or the memory cap comes first.

    Meanwhile it drains the process's output, so that the process never waits for a full pipe.
    """
    end, look_at = time.monotonic() + deadline_s, 0.0
    answer = b""
    while True:
        looked_at = [result.fileno(), control.fileno()]
        looked_at += [output.fileno()] if output.is_open else []
        ready, _, _ = select.select(looked_at, [], [], POLL_S)
        output.drain()
        if result.fileno() in ready:
            part = result.read(65_536)
            answer += part
            if answer.endswith(b"\n"):
                return None, answer
            if not part:
                return None, None  # the process ended without an answer; its wait status says how
        elif control.fileno() in ready and not select.select([result.fileno()], [], [], 0)[0]:
            # The server reports the trial's end or is gone itself. An answer would be here by now.
            return None, None
        if time.monotonic() > end:
            return ("timeout", f"no result within {deadline_s:g} s; killed"), None
        if cap_mib is not None and time.monotonic() >= look_at:
            look_at = time.monotonic() + LOOK_EVERY_S
            used_mib = tree_resident_mib(pid)
            if used_mib > cap_mib:
                detail = f"used {used_mib:.0f} MiB, over the cap of {cap_mib:.0f} MiB; killed"
                return ("out_of_memory", detail), None


def from_status(status: int) -> tuple[FailureKind, str]:
    """The failure that a process's wait status stands for."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return "crash", f"the trial's process exited with status {code} and without a result"
    name = signal.Signals(-code).name
    if -code in OUTSIDE_SIGNALS:
        return "killed", f"killed by {name}, from outside or by the kernel for lack of memory"
    return "crash", f"the trial's process crashed with {name}"


def receive(control: socket.socket) -> dict[str, Any] | None:
    """The server's next message; None if the server is gone."""
    try:
        message = control.recv(4_096)
    except ConnectionError:
        return None
    return json.loads(message) if message else None


def kill_group(pid: int) -> None:
    """Kills a trial and everything that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def write_stacks(pid: int, output: Output) -> None:
    """Has a trial and its children write the stacks of their threads to the output."""
    output.drain()
    before = seen = output.count
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, STACKS_SIGNAL)
    end = time.monotonic() + STACKS_S
    while time.monotonic() < end:
        time.sleep(STACKS_S / 10)
        output.drain()
        if before < output.count == seen:
            return
        seen = output.count


def hangs_in(output: str) -> str:
    """The innermost line of a user's code in the stacks, to end a message; empty without one."""
    for frame in FRAME.finditer(output):
        file = Path(frame["file"])
        ours = file.is_relative_to(PROJECT) and file.parent.name != "builtin"
        if not ours and not LIBRARIES.search(frame["file"]):
            return f"; it was in {frame['function']} ({file.name}, line {frame['line']})"
    return ""
