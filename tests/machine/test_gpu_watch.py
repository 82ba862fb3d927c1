"""What a watch records of the GPU while a block runs, and that it never disturbs the block."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.machine import gpu_watch
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.machine.gpu_watch import GpuWatch, Looks
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fake_nvml import FakeNvml
from tests.support.fakes import LIMIT_TERMS, measurement

PATIENCE_S = 20.0


def watched(fake: FakeNvml, looks: int) -> GpuReadings | None:
    """The readings of a block that ends once the watch has looked this many times."""
    enough = threading.Event()
    fake.on_look = lambda number: enough.set() if number == looks else None
    with Gpu(fake, {}) as gpu, GpuWatch(gpu, every_s=0.0) as watch:
        assert enough.wait(PATIENCE_S)
    return watch.readings


def test_looks_come_to_means_medians_peaks_and_all_events() -> None:
    fake = FakeNvml()
    fake.used_mib = [500.0, 900.0, 2_500.0, 700.0]  # the first is from before the trial
    fake.percents = [0, 90, 60]
    fake.clocks_mhz = [345, 1_980, 1_755]
    fake.masks = [0x1, 0x4, 0x20]
    looks = Looks(Gpu(fake, {}).open())

    assert [looks.look() for _ in range(3)] == [True] * 3

    assert looks.readings() == GpuReadings(
        utilisation=0.5,
        sm_clock_mhz=1_755.0,
        device_used_mib=2_000.0,
        clock_events=["gpu_idle", "sw_power_cap", "sw_thermal_slowdown"],
        looks=3,
    )


def test_a_watch_looks_as_long_as_its_block_runs_and_starts_anew_each_time() -> None:
    fake = FakeNvml()
    fake.masks = [0x40, 0x0]
    gpu = Gpu(fake, {}).open()
    watch = GpuWatch(gpu, every_s=0.0)
    enough = threading.Event()
    fake.on_look = lambda number: enough.set() if number == 5 else None

    with watch:
        assert enough.wait(PATIENCE_S)
    first, asked = watch.readings, len(fake.asked)
    with watch:
        pass

    assert first is not None
    assert first.looks >= 5
    assert first.throttled == ["hw_thermal_slowdown"]
    assert watch.readings is not None
    assert watch.readings.throttled == []
    assert watch.readings.looks >= 1  # however short the block
    assert len(fake.asked) > asked
    assert not [t for t in threading.enumerate() if t.name == "gpu-watch"]


def test_a_gpu_that_is_not_known_costs_no_thread() -> None:
    with GpuWatch(Gpu(FakeNvml(), {"CUDA_VISIBLE_DEVICES": ""}).open()) as watch:
        assert not [t for t in threading.enumerate() if t.name == "gpu-watch"]

    assert watch.readings is None


def test_what_the_driver_does_not_tell_is_none() -> None:
    refused = ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMemoryInfo")

    found = watched(FakeNvml(refused=refused), looks=2)

    assert found is not None
    assert (found.utilisation, found.device_used_mib, found.sm_clock_mhz) == (None, None, 1_980.0)


def test_a_driver_that_tells_nothing_is_asked_once() -> None:
    refused = tuple(name for name in dir(FakeNvml) if name.startswith("nvmlDeviceGet"))
    fake = FakeNvml(refused=tuple(set(refused) - {"nvmlDeviceGetHandleByIndex"}))
    gpu = Gpu(fake, {}).open()

    looks = Looks(gpu)

    assert not looks.look()
    assert looks.readings() is None


def test_a_gpu_that_is_lost_ends_the_looking_and_keeps_what_was_seen() -> None:
    fake = FakeNvml()
    looks = Looks(Gpu(fake, {}).open())
    assert looks.look()

    fake.refused = tuple(name for name in dir(FakeNvml) if name.startswith("nvmlDeviceGet"))
    assert not looks.look()

    found = looks.readings()
    assert found is not None
    assert (found.looks, found.utilisation) == (1, 0.5)
    assert found.problem == "the driver no longer answers"


def test_an_exception_while_looking_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(FakeNvml(), {}).open()
    failed = threading.Event()
    events = gpu.clock_events
    answers: list[Any] = [events, events]

    def clock_events() -> Any:
        if answers:
            return answers.pop()()
        failed.set()
        raise RuntimeError("no such bit")

    monkeypatch.setattr(gpu, "clock_events", clock_events)
    with GpuWatch(gpu, every_s=0.0) as watch:
        assert failed.wait(PATIENCE_S)

    assert watch.readings is not None
    assert (watch.readings.looks, watch.readings.problem) == (2, "RuntimeError: no such bit")


def test_a_driver_that_hangs_does_not_hold_up_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_watch, "JOIN_TIMEOUT_S", 0.05)
    fake, hangs, release = FakeNvml(), threading.Event(), threading.Event()

    def hang(number: int) -> None:
        if number == 2:
            hangs.set()
            release.wait(PATIENCE_S)

    fake.on_look = hang
    with GpuWatch(Gpu(fake, {}).open(), every_s=0.0) as watch:
        assert hangs.wait(PATIENCE_S)

    assert watch.readings is not None
    assert watch.readings.problem == "the driver did not answer for 0.05 s"
    release.set()


def test_an_exception_of_the_trial_passes_through() -> None:
    with Gpu(FakeNvml(), {}) as gpu, pytest.raises(KeyboardInterrupt), GpuWatch(gpu) as watch:
        raise KeyboardInterrupt

    assert watch.readings is not None


class NoProcess(TrialRunner):
    """Answers as a trial's process would, including the device that it ran on."""

    device = "gpu: H100"

    def _run(self, job: Any, deadline_s: float, cap_mib: float | None) -> Any:
        if job["job"] == "limit":
            return {"limit": LIMIT_TERMS.model_dump(mode="json"), "output": ""}
        found = measurement().model_copy(update={"device": self.device})
        return {"measurement": found.model_dump(mode="json"), "output": ""}


def throttling() -> FakeNvml:
    fake = FakeNvml()
    fake.masks = [0x8]
    return fake


SPEC = TrialSpec(
    pipeline="tests.planted.pipelines:Planted",
    config=PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1),
)


@pytest.mark.slow
def test_the_parent_adds_what_nvml_said_to_a_trial_and_to_the_limit() -> None:
    fake = throttling()
    with Gpu(fake, {}) as gpu:
        runner = NoProcess(gpu=gpu)
        trial = runner.measure(SPEC)
        limit = runner.measure_limit(SPEC.pipeline, 4, 0, "gpu", vectorized=False)

    assert isinstance(trial, Measurement)
    assert isinstance(limit, LimitTerms)
    for found in (trial.gpu, limit.gpu):
        assert found is not None
        assert found.throttled == ["hw_slowdown"]


@pytest.mark.parametrize(("wanted", "ran_on"), [("cpu", "cpu"), ("auto", "cpu")])
def test_a_trial_on_the_cpu_has_nothing_of_the_gpu_beside_it(wanted: Any, ran_on: str) -> None:
    fake = throttling()
    runner = NoProcess(gpu=Gpu(fake, {}))
    runner.device = ran_on

    trial = runner.measure(SPEC.model_copy(update={"device": wanted}))
    runner.close()

    assert isinstance(trial, Measurement)
    assert trial.gpu is None
    assert bool(fake.asked) == (wanted != "cpu")
    assert fake.open == 0
