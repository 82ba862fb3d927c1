"""The cores that this process may keep busy: those it may run on, within its group's quota.

A container with `--cpus 1.5` still sees every core of the host; the kernel stops its threads for
the rest of each period once they have used the quota up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# The groups that this process is in, and where the groups' own files are mounted.
MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """Cores' worth of time that this process gets, in general not a whole number."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota(MEMBERSHIP, MOUNT)
    return allowed if quota is None else min(allowed, quota)


def whole_cores() -> int:
    """The same where a number of processes or of calls is wanted: rounded down, at least one."""
    return max(1, int(usable_cores()))


def cpu_quota(membership: Path, mount: Path) -> float | None:
    """Cores that the control groups allow, v2 or v1; None where none of them has a limit.

    Args:
        membership: a file like /proc/self/cgroup.
        mount: a folder like /sys/fs/cgroup.
    """
    quotas = [_quota(folder) for folder in _groups(membership, mount)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(membership: Path, mount: Path) -> Iterator[Path]:
    """Folders of this process's groups and of their parents: each of them may have a limit.

    In a container the path may be that of the host, where only the root is mounted: what isn't
    there has no limit.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "":
            roots = [mount]  # v2
        elif "cpu" in controllers.split(","):
            roots = [mount / "cpu", mount / "cpu,cpuacct"]  # v1
        else:
            continue
        own = PurePosixPath(path)
        for root in roots:
            # A group outside of this namespace has "..", and no folder here.
            yield from (
                root / g.relative_to("/") for g in (own, *own.parents) if ".." not in g.parts
            )


def _quota(folder: Path) -> float | None:
    """Cores that one group allows; None for no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii")
        return None if quota in ("max", "-1") else float(quota) / float(period)
    except (OSError, ValueError):
        return None  # the root of v2 has no such file
