"""Usable cores within the quotas of made-up control groups, v2 and v1."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefetch_tuning.pipelines import cores


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /sys/fs/cgroup, on a host whose affinity is two cores."""
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "MOUNT", tmp_path / "mount")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    return tmp_path / "mount"


def member(mount: Path, lines: str) -> None:
    (mount.parent / "cgroup").write_text(lines)


def group(mount: Path, path: str, **files: str) -> None:
    folder = mount / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("cpu_", "cpu.")).write_text(text + "\n")


def test_without_control_groups_it_is_the_affinity(mount: Path) -> None:
    assert cores.usable_cores() == 2.0


def test_v2_takes_its_own_groups_quota(mount: Path) -> None:
    member(mount, "0::/user/job\n")
    group(mount, "user/job", cpu_max="150000 100000")

    assert cores.usable_cores() == 1.5


def test_v2_takes_the_least_quota_up_to_the_root(mount: Path) -> None:
    member(mount, "0::/user/job\n")
    group(mount, "user/job", cpu_max="max 100000")
    group(mount, "user", cpu_max="50000 100000")
    group(mount, "", cpu_max="100000 100000")

    assert cores.usable_cores() == 0.5


def test_v2_another_groups_quota_is_not_ours(mount: Path) -> None:
    member(mount, "0::/user/job\n")
    group(mount, "user/other", cpu_max="50000 100000")

    assert cores.usable_cores() == 2.0


def test_a_quota_above_the_affinity_adds_no_cores(mount: Path) -> None:
    member(mount, "0::/\n")
    group(mount, "", cpu_max="800000 100000")

    assert cores.usable_cores() == 2.0


@pytest.mark.parametrize("root", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "expected"), [("150000", 1.5), ("-1", 2.0)])
def test_v1_takes_the_quota_of_the_cpu_controller(
    mount: Path, root: str, quota: str, expected: float
) -> None:
    member(mount, "5:memory:/elsewhere\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n0::/\n")
    period = {"cpu_cfs_period_us": "100000"}
    group(mount, f"{root}/docker/abc", cpu_cfs_quota_us=quota, **period)
    group(mount, f"{root}/elsewhere", cpu_cfs_quota_us="10000", **period)

    assert cores.usable_cores() == expected


def test_v1_takes_the_least_quota_of_the_parents(mount: Path) -> None:
    member(mount, "1:cpu:/docker/abc\n")
    group(mount, "cpu/docker/abc", cpu_cfs_quota_us="150000", cpu_cfs_period_us="100000")
    group(mount, "cpu/docker", cpu_cfs_quota_us="60000", cpu_cfs_period_us="50000")

    assert cores.usable_cores() == 1.2


def test_in_a_container_that_sees_the_hosts_path_the_root_counts(mount: Path) -> None:
    member(mount, "4:cpu,cpuacct:/docker/abc\n")
    group(mount, "cpu,cpuacct", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")

    assert cores.usable_cores() == 0.5


def test_a_group_outside_of_the_namespace_has_no_files_here(mount: Path) -> None:
    member(mount, "0::/../other\n")
    group(mount, "", cpu_max="150000 100000")

    assert cores.usable_cores() == 1.5


def test_what_is_not_a_quota_is_no_limit(mount: Path) -> None:
    member(mount, "0::/\n")
    group(mount, "", cpu_max="soon")

    assert cores.usable_cores() == 2.0
