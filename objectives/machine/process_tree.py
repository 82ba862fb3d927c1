"""What a trial's process and its children use: peak resident memory and CPU time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

MIB = 1024.0 * 1024.0
# Finding the children means reading all of /proc. That takes some milliseconds, too much to do at
# every window.
LOOK_EVERY_S = 1.0


def resident_peak_mib() -> float:
    """`VmHWM` of this process, in MiB.

    It isn't `ru_maxrss`, because in the child of a large parent that starts at the parent's size.

    Raises:
        OSError: this system has no /proc.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024.0
    raise OSError("/proc/self/status has no VmHWM line")


def reset_peak() -> bool:
    """Makes this process's peak its resident memory now; False if this system doesn't allow it.

    Memory that was freed goes back to the kernel first. Otherwise what tracing left in malloc's
    pools would hide what the input pipeline takes from them.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        # 5 resets VmHWM: proc(5), since Linux 4.0.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


class ProcessTree:
    """This process and its descendants.

    CPU time counts from the creation of this object, and memory from `begin_memory`.

    Attributes:
        resets: False if the peak could not be reset, so it includes what was used before.
        others: ids of processes that work for this one and aren't its descendants.
    """

    def __init__(self) -> None:
        self.resets = True
        self._start_mib = resident_peak_mib()
        self._looked = -LOOK_EVERY_S
        self._children: list[psutil.Process] = []
        self._children_peak_mib = 0.0
        self._others_cpu_s: dict[int, float] = {}
        self.others: list[int] = []

    def begin_memory(self) -> None:
        """Counts memory from now on: what the model and its tracing took is no longer included."""
        self.resets = reset_peak()
        if self.resets:
            self._start_mib = resident_peak_mib()

    def look(self) -> None:
        """Records the current children and their memory; what happens between looks is missed."""
        self._looked = time.monotonic()
        self._children = psutil.Process().children(recursive=True)
        for pid in self.others:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._children.append(psutil.Process(pid))
        held_mib = added_mib(psutil.Process(), self._children)
        self._children_peak_mib = max(self._children_peak_mib, held_mib)

    @property
    def peak_mib(self) -> float:
        """What this process's peak added, plus the largest total of its children, in MiB."""
        return max(resident_peak_mib() - self._start_mib, 0.0) + self._children_peak_mib

    def cpu_s(self) -> float:
        """CPU seconds so far of all threads and of the children, also of those that have ended.

        A process that ended counts for its parent once that has waited for it.
        """
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self.look()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        total_s = time.process_time() + ended.ru_utime + ended.ru_stime
        for child in self._children:
            with contextlib.suppress(psutil.NoSuchProcess):
                used_s = sum(child.cpu_times()[:4])  # its own, and its children's that ended
                if child.pid in self.others:
                    self._others_cpu_s[child.pid] = used_s
                else:
                    total_s += used_s
        return total_s + sum(self._others_cpu_s.values())


def added_mib(parent: psutil.Process, children: Sequence[psutil.Process]) -> float:
    """What a process's descendants use in addition to the process itself, in MiB.

    This isn't their resident size, because a forked child shares hundreds of MiB of TensorFlow with
    its parent. Such a child counts by its unique size. Its proportional size would include a part
    of what is shared, and sixteen children together would seem to add almost all of it again.
    Other children, which have a different command line, count by their proportional size, because
    they share memory among themselves.
    """
    total = 0.0
    own = _command_line(parent)
    for child in children:
        with contextlib.suppress(psutil.Error):
            memory = child.memory_full_info()
            total += (memory.uss if _command_line(child) == own else memory.pss) / MIB
    return total


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def tree_resident_mib(pid: int) -> float:
    """What process `pid` and its descendants use now, in MiB; 0 once it has ended."""
    try:
        parent = psutil.Process(pid)
        children = parent.children(recursive=True)
        return float(parent.memory_info().rss) / MIB + added_mib(parent, children)
    except psutil.NoSuchProcess:
        return 0.0
