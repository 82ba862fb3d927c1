"""What is said of a disturbed host, with the system's files and counters made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from experiments import noise
from experiments.environment import usable_cores


@pytest.fixture(autouse=True)
def quiet_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that nothing disturbs; the returned folder stands for /sys/devices/system/cpu."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(noise, "GOVERNORS", tmp_path)
    monkeypatch.setattr(noise, "QUOTA", tmp_path / "cpu.max")
    return tmp_path


def test_a_quiet_host_has_no_warning() -> None:
    assert noise.host_warnings(usable_cores()) == []


def test_other_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 1.0, 1.0))

    [warning] = noise.host_warnings(usable_cores())
    assert warning.startswith("load 1.5 before anything is measured: stop")


def test_frequency_scaling_is_named_with_its_cure(quiet_host: Path) -> None:
    for core, governor in ((0, "powersave"), (1, "performance")):
        folder = quiet_host / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")

    [warning] = noise.host_warnings(usable_cores())
    assert "(governor powersave): cpupower frequency-set -g performance" in warning


def test_fewer_cores_than_asked_are_named(quiet_host: Path) -> None:
    (quiet_host / "cpu.max").write_text("150000 100000\n")

    assert noise.cpu_quota() == 1.5
    [warning] = noise.host_warnings(usable_cores() + 1)
    assert warning.startswith(f"only 1.5 of {usable_cores() + 1} cores are for this process")


def test_no_quota_is_no_limit(quiet_host: Path) -> None:
    (quiet_host / "cpu.max").write_text("max 100000\n")

    assert noise.cpu_quota() is None


def test_stolen_time_is_a_share_of_all_cores() -> None:
    cores = os.cpu_count() or 1

    assert noise.steal_warning(5.0, 5.0 + 0.01 * cores, 1.0) is None
    warning = noise.steal_warning(5.0, 5.0 + 0.1 * cores, 1.0)
    assert warning is not None
    assert warning.startswith("the hypervisor gave 10% of the processor to other machines")
