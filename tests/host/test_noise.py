"""Warnings about a disturbed host, from made-up system files and counters."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefetch_tuning.experiments.host import noise
from prefetch_tuning.pipelines import cores
from prefetch_tuning.pipelines.cores import usable_cores


@pytest.fixture(autouse=True)
def quiet_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that nothing disturbs; its folder replaces /sys/devices/system/cpu and the cgroups."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(noise, "GOVERNORS", tmp_path)
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MOUNT", tmp_path)
    return tmp_path


def test_a_quiet_host_has_no_warning() -> None:
    assert noise.host_warnings() == []


def test_other_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 1.0, 1.0))

    [warning] = noise.host_warnings()
    assert warning.startswith("load 1.5 before anything is measured: stop")


def test_frequency_scaling_is_named_with_its_cure(quiet_host: Path) -> None:
    for core, governor in ((0, "powersave"), (1, "performance")):
        folder = quiet_host / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(governor + "\n")

    [warning] = noise.host_warnings()
    assert "(governor powersave): run cpupower frequency-set -g performance" in warning


def test_fewer_cores_than_asked_are_named(quiet_host: Path) -> None:
    (quiet_host / "cgroup").write_text("0::/\n")
    (quiet_host / "cpu.max").write_text("50000 100000\n")

    assert usable_cores() == 0.5
    [warning] = noise.host_warnings()
    assert warning.startswith("this process may use only 0.5 of 2 cores: ")


def test_stolen_time_is_a_share_of_all_cores() -> None:
    count = os.cpu_count() or 1

    assert noise.steal_warning(5.0, 5.0 + 0.01 * count, 1.0) is None
    warning = noise.steal_warning(5.0, 5.0 + 0.1 * count, 1.0)
    assert warning is not None
    assert warning.startswith("the hypervisor gave 10% of the processor to other machines")
