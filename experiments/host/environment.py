"""Where and with what a measurement was made: versions, host fingerprint, git commit."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from prefetch_tuning.objectives.machine.cores import usable_cores

PACKAGES = ("tensorflow", "keras", "numpy", "optuna", "mlflow", "prefetch-tuning")


def environment_tags(directory: Path) -> dict[str, str]:
    """MLflow tags that say what a run was measured with; `directory` holds the person's code.

    Nothing here imports TensorFlow: versions come from the packages' metadata.
    """
    tags = {"host": host_description(), "host.fingerprint": host_fingerprint()}
    tags |= {"mlflow.source.name": "prefetch-tune", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    tags |= {f"version.{name}": number for name, number in package_versions().items()}
    return tags | git_tags(directory)


def package_versions() -> dict[str, str]:
    """Python and the packages that a measurement depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def host_description() -> str:
    """The host in words: cores, processor, memory."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{usable_cores():g} x {_processor()}, {memory_gib:.0f} GiB"


def host_fingerprint() -> str:
    """Twelve hex digits that change with the processor, its cores, the memory or the system."""
    cores = usable_cores()
    # A whole number is written as one: hosts without a quota keep their fingerprint.
    number = int(cores) if cores.is_integer() else cores
    parts = (_processor(), number, psutil.virtual_memory().total, platform.platform())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def git_tags(directory: Path) -> dict[str, str]:
    """`git.commit` and `git.dirty` of the checkout around `directory`; empty if there is none."""
    commit = _git(directory, "rev-parse", "HEAD")
    if commit is None:
        return {}
    dirty = _git(directory, "status", "--porcelain") != ""
    return {"git.commit": commit, "git.dirty": str(dirty).lower()}


def _git(directory: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
