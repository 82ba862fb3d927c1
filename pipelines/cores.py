"""The cores that this process may use: its CPU affinity, within its control group's quota.

A container with `--cpus 1.5` still sees every core of the host. Once its threads have used up the
quota, the kernel stops them for the rest of each period.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# The file that lists this process's groups, and the folder where the groups' files are mounted.
MEMBERSHIP = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """Number of cores' worth of time that this process gets; often not a whole number."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota = cpu_quota(MEMBERSHIP, MOUNT)
    return allowed if quota is None else min(allowed, quota)


def cpu_quota(membership: Path, mount: Path) -> float | None:
    """Cores that the control groups allow, v1 or v2; None if none of them has a limit.

    Args:
        membership: a file like /proc/self/cgroup.
        mount: a folder like /sys/fs/cgroup.
    """
    quotas = [_quota(folder) for folder in _groups(membership, mount)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(membership: Path, mount: Path) -> Iterator[Path]:
    """Folders of this process's groups and of their parents, each of which may have a limit.

    In a container the path may be that of the host while only the root is mounted. A folder that
    isn't there has no limit.
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
            # The path of a group outside this namespace contains "..", and has no folder here.
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
