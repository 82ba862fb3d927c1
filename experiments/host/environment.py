"""Describes where and with what a measurement was made: versions, host, git commit."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from prefetch_tuning.pipelines.cores import usable_cores

PACKAGES = ("tensorflow", "keras", "numpy", "optuna", "mlflow", "prefetch-tuning")
ENVIRONMENT_TAGS = {
    "host": "the host's cores, processor and memory",
    "host.fingerprint": "hash of the processor, the cores, the memory and the system",
    "version.NAME": f"version of python, {', '.join(PACKAGES)}",
    "git.commit": "commit of the checkout around the current directory",
    "git.dirty": "`true` if that checkout has changes that are not committed",
    "mlflow.source.name": "prefetch-tune",
    "mlflow.source.type": "LOCAL",
    "mlflow.user": "name of the user on the host",
}


def environment_tags(directory: Path) -> dict[str, str]:
    """MLflow tags for the environment of a run; `directory` is the folder with the user's code.

    Versions come from the packages' metadata, because a study must not import TensorFlow.
    """
    tags = {"host": host_description(), "host.fingerprint": host_fingerprint()}
    tags |= {"mlflow.source.name": "prefetch-tune", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(KeyError, OSError):  # a user in a container may have no name
        tags["mlflow.user"] = getpass.getuser()
    tags |= {f"version.{name}": number for name, number in package_versions().items()}
    return tags | git_tags(directory)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect a measurement."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def host_description() -> str:
    """Description of the host: cores, processor, memory."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{usable_cores():g} x {processor()}, {memory_gib:.0f} GiB"


def host_fingerprint() -> str:
    """Twelve hex digits that change with the processor, the cores, the memory or the system."""
    cores = usable_cores()
    # Whole numbers are hashed as integers, so hosts without a CPU quota keep their fingerprint.
    number = int(cores) if cores.is_integer() else cores
    parts = (processor(), number, psutil.virtual_memory().total, platform.platform())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def git_tags(directory: Path) -> dict[str, str]:
    """`git.commit` and `git.dirty` of the checkout around `directory`; empty without a checkout."""
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


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
