"""How NVML's answers, or their absence, are interpreted, with a stand-in for its module."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from prefetch_tuning.objectives.gpu_readings import GpuReadings, event_names
from prefetch_tuning.objectives.machine.gpu import Gpu, first_visible
from tests.support.fake_nvml import FakeNvml

QUESTIONS = (
    "name",
    "driver_version",
    "cuda_driver_version",
    "memory_total_mib",
    "max_sm_clock_mhz",
    "memory_used_mib",
    "utilisation_percent",
    "sm_clock_mhz",
    "clock_events",
)


def answers(gpu: Gpu) -> dict[str, Any]:
    found = {name: getattr(gpu, name) for name in QUESTIONS}
    return {name: answer() if callable(answer) else answer for name, answer in found.items()}


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        (None, 0),
        ("", None),
        ("-1", None),
        ("-1,0", None),  # CUDA hides what follows an invalid index
        ("NoDevFiles", None),
        ("2", 2),
        (" 1 ,0", 1),
        ("GPU-8932f937,0", "GPU-8932f937"),
        ("MIG-1/2/0", "MIG-1/2/0"),
    ],
)
def test_the_first_gpu_that_cuda_shows(listed: str | None, first: int | str | None) -> None:
    environment = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}

    assert first_visible(environment) == first


def test_every_answer_has_its_unit() -> None:
    fake = FakeNvml()
    fake.masks = [0x24]

    with Gpu(fake, {}) as gpu:
        assert gpu.is_known
        assert answers(gpu) == {
            "name": "NVIDIA H100 GPU-aaaa-1",
            "driver_version": "570.86.15",
            "cuda_driver_version": "12.8",
            "memory_total_mib": 81_559.0,
            "max_sm_clock_mhz": 1_980.0,
            "memory_used_mib": 600.0,
            "utilisation_percent": 50.0,
            "sm_clock_mhz": 1_980.0,
            "clock_events": {"sw_power_cap", "sw_thermal_slowdown"},
        }
    assert fake.open == 0
    assert set(answers(gpu).values()) == {None}


@pytest.mark.parametrize("listed", ["1", "GPU-bbbb-2", "GPU-bb"])
def test_a_gpu_is_found_by_index_by_uuid_and_by_the_beginning_of_one(listed: str) -> None:
    fake = FakeNvml(("GPU-aaaa-1", "GPU-bbbb-2"))

    with Gpu(fake, {"CUDA_VISIBLE_DEVICES": listed}) as gpu:
        assert gpu.name == "NVIDIA H100 GPU-bbbb-2"


@pytest.mark.parametrize("listed", ["", "-1", "7", "GPU-cc"])
def test_a_hidden_or_missing_gpu_is_not_known(listed: str) -> None:
    fake = FakeNvml()

    with Gpu(fake, {"CUDA_VISIBLE_DEVICES": listed}) as gpu:
        assert not gpu.is_known
        assert set(answers(gpu).values()) == {None}
    assert fake.open == 0


def test_what_the_driver_does_not_support_is_not_known_and_the_rest_is() -> None:
    everything = {name for name in dir(FakeNvml) if name.startswith("nvmlDeviceGet")}
    refused = everything - {"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetClockInfo"}

    with Gpu(FakeNvml(refused=tuple(refused)), {}) as gpu:
        known = {name for name, answer in answers(gpu).items() if answer is not None}

    assert known == {"driver_version", "cuda_driver_version", "sm_clock_mhz"}


def test_an_old_library_still_tells_the_clock_events() -> None:
    fake = FakeNvml(refused=("nvmlDeviceGetCurrentClocksEventReasons",))
    fake.masks = [0x40]

    with Gpu(fake, {}) as gpu:
        assert gpu.clock_events() == frozenset({"hw_thermal_slowdown"})


def test_without_the_library_or_a_driver_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    fake = FakeNvml(refused=("nvmlInit",))

    for gpu in (Gpu(environment={}), Gpu(fake, {})):
        with gpu:
            gpu.open()  # every trial opens it
            assert not gpu.is_known
            assert set(answers(gpu).values()) == {None}
    assert fake.asked == ["nvmlInit"]


@pytest.mark.parametrize(
    ("mask", "events", "throttled"),
    [
        (0x0, [], []),
        (0x1, ["gpu_idle"], []),
        (0x106, ["applications_clocks_setting", "display_clock_setting", "sw_power_cap"], []),
        (0x48, ["hw_slowdown", "hw_thermal_slowdown"], ["hw_slowdown", "hw_thermal_slowdown"]),
        (0xB0, *[["hw_power_brake_slowdown", "sw_thermal_slowdown", "sync_boost"]] * 2),
        (0x1000, ["reason_0x1000"], []),
    ],
)
def test_which_clock_events_are_throttling(
    mask: int, events: list[str], throttled: list[str]
) -> None:
    found = sorted(event_names(mask))

    assert found == events
    assert GpuReadings(clock_events=found).throttled == throttled
