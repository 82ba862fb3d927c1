"""What a trial's process and its children use: peak resident memory and CPU time."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

MIB = 1024.0 * 1024.0
# Finding the children means reading all of /proc, some milliseconds: not beside every window.
LOOK_EVERY_S = 1.0


def resident_peak_mib(pid: int | str = "self") -> float:
    """`VmHWM` of one process, in MiB.

    Not `ru_maxrss`: in the child of a large parent it begins at the parent's size.

    Raises:
        OSError: the process is gone, or this system has no /proc.
    """
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024.0
    raise OSError(f"/proc/{pid}/status has no VmHWM line")


class ProcessTree:
    """This process and its descendants, measured from when the object was made."""

    def __init__(self) -> None:
        self._start_mib = resident_peak_mib()
        self._looked = -LOOK_EVERY_S
        self._children: list[psutil.Process] = []
        self._children_peak_mib: dict[int, float] = {}
        self._children_cpu_s: dict[int, float] = {}

    def look(self) -> None:
        """Notes which children there are and their peaks; one that ends between looks is lost."""
        self._looked = time.monotonic()
        self._children = psutil.Process().children(recursive=True)
        for child in self._children:
            with contextlib.suppress(OSError):  # it has just ended; its last known peak stands
                self._children_peak_mib[child.pid] = resident_peak_mib(child.pid)

    @property
    def peak_mib(self) -> float:
        """MiB over the start. Children's peaks are added up, reached at once or not."""
        children = sum(self._children_peak_mib.values())
        return resident_peak_mib() - self._start_mib + children

    def cpu_s(self) -> float:
        """CPU seconds of all threads so far, and of the children, as last seen."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self.look()
        for child in self._children:
            with contextlib.suppress(psutil.NoSuchProcess):
                used = child.cpu_times()
                self._children_cpu_s[child.pid] = used.user + used.system
        return time.process_time() + sum(self._children_cpu_s.values())


def tree_resident_mib(pid: int) -> float:
    """Resident memory that process `pid` and its descendants hold now, in MiB; 0 once it ended."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        return float(sum(process.memory_info().rss for process in family)) / MIB
    except psutil.NoSuchProcess:
        return 0.0
