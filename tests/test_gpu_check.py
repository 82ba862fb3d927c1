"""The checks of `make gpu-check`, against stand-ins for NVML, the trials and the programs."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.audit.judging import Line
from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import failures, memory, presence, timing
from benchmarks.gpu_check.checks import CHECKS, check, run_checks
from benchmarks.gpu_check.document import as_json, kept, machine, markdown
from benchmarks.gpu_check.ground import CheckError, Ground, ProgramError, run_program
from benchmarks.gpu_check.overlap import common, length, merged, overlap
from experiments.results import TrialRow
from objectives.gpu import Gpu
from objectives.gpu_readings import GpuReadings
from objectives.isolation import TrialRunner
from objectives.measurement import LimitTerms, Measurement, TrialFailure
from objectives.spec import Device, TrialSpec
from pipelines.config import PipelineConfig
from tests.fake_nvml import FakeNvml
from tests.fakes import LIMIT_TERMS, measurement

Answer = Measurement | TrialFailure


class Trials(TrialRunner):
    """Answers each trial by its spec, without a process."""

    def __init__(self, answer: Callable[[TrialSpec], Answer], step_s: float = 0.025) -> None:
        super().__init__()
        self.answer = answer
        self.step_s = step_s
        self.specs: list[TrialSpec] = []

    def measure(self, spec: TrialSpec) -> Answer:
        self.specs.append(spec)
        return self.answer(spec)

    def measure_limit(
        self, pipeline: str, batch_size: int, seed: int, device: Device, *, vectorized: bool
    ) -> LimitTerms | TrialFailure:
        return LIMIT_TERMS.model_copy(update={"step_examples_per_s": batch_size / self.step_s})


def on_gpu(rate: float = 1_000.0, **more: Any) -> Measurement:
    return measurement(rate).model_copy(update={"device": "gpu: NVIDIA H100", **more})


def ground(
    answer: Callable[[TrialSpec], Answer] = lambda spec: on_gpu(),
    nvml: FakeNvml | None = None,
    program: Mapping[str, dict[str, Any]] | None = None,
    step_s: float = 0.025,
) -> Ground:
    def run(module: str, *arguments: str, **_: object) -> dict[str, Any]:
        return (program or {})[".".join([module.rpartition(".")[2], *arguments])]

    gpu = Gpu(nvml or FakeNvml(), {}).open()
    return Ground(Trials(answer, step_s), gpu, program=run)


def states(lines: list[Line]) -> list[str]:
    return [line.state for line in lines]


def test_a_host_without_a_gpu_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([], Gpu(FakeNvml(), {"CUDA_VISIBLE_DEVICES": ""})) == 2

    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("error: no GPU")


def test_a_check_that_does_not_exist_is_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "everything"], Gpu(FakeNvml(), {})) == 2
    assert "'everything'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gpus", "error", "state"), [(1, 1e-3, "holds"), (0, 1e-3, "fails"), (1, 0.5, "fails")]
)
def test_the_gpu_is_seen_and_computes(gpus: int, error: float, state: str) -> None:
    found = {"gpus": gpus, "name": "H100", "error": error, "tensorflow": "2.21.0"}
    at = ground(program={"show_device": found})

    assert states(presence.seen(at)) == [state]
    assert at.facts["tensorflow"] == "2.21.0"


def test_a_process_that_opened_no_gpu_has_none_open() -> None:
    assert not presence.opened_by(os.getpid())


def test_a_step_is_the_same_in_a_window_and_alone() -> None:
    timed = {"time_steps": {"step_s": 0.025, "dispatch_s": 0.0004}}
    same = ground(lambda spec: on_gpu(8 / 0.0255), program=timed)
    not_waited_for = ground(lambda spec: on_gpu(8 / 0.0004), program=timed)

    assert states(timing.windows(same)) == ["holds"]
    assert states(timing.windows(not_waited_for)) == ["fails"]


def test_utilisation_is_held_against_nvml_and_against_a_sleep() -> None:
    """A step of 25 ms; the slow rows make a batch in 50 ms, and NVML sees the device half busy."""
    rates = {"slow_rows": 8 / 0.05, "quick_rows": 8 / 0.025}

    def answer(spec: TrialSpec) -> Answer:
        return on_gpu(next(rate for rows, rate in rates.items() if rows in spec.pipeline))

    nvml = FakeNvml()
    nvml.percents = [50]
    lines = timing.utilisation(ground(answer, nvml))

    # NVML's half is right for the slow rows only; a sleep of the same length predicts both.
    assert states(lines) in (
        ["holds", "holds", "fails", "holds"],
        ["fails", "holds", "fails", "holds"],
    )
    assert "50.0% real" in lines[1].measured
    assert "100.0% real" in lines[3].measured


def test_the_emulated_step_is_the_measured_one() -> None:
    at = ground(lambda spec: on_gpu(8 / 0.025))
    timing.utilisation(at)
    runner = at.runner
    assert isinstance(runner, Trials)

    assert [s.pipeline.rpartition(",")[2] for s in runner.specs if "step=" in s.pipeline] == [
        "step=25ms"
    ] * 2


def test_only_the_busy_end_of_a_trial_counts() -> None:
    sampled = timing.Sampled(Gpu(FakeNvml(), {}))
    looks = [(0.0, 0.0), (1.0, 0.1), (2.0, 0.5), (3.0, 0.7), (4.0, 0.0)]
    sampled._seen = looks

    assert sampled.last(1.0) == pytest.approx(0.6)
    sampled._seen = [(0.0, 0.0)]
    assert sampled.last(1.0) == 0.0
    sampled._seen = []
    with pytest.raises(CheckError, match="NVML"):
        sampled.last(1.0)


def test_spans_are_merged_and_compared() -> None:
    copies = [(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)]
    kernels = [(2.5, 5.5)]

    assert merged(copies) == [(0.0, 3.0), (5.0, 6.0)]
    assert length(merged(copies)) == 4.0
    assert common(copies, kernels) == pytest.approx(1.0)
    assert common(copies, []) == 0.0


@pytest.mark.parametrize(("with_it", "state"), [(0.8, "holds"), (0.0, "fails")])
def test_what_a_trace_shows_of_the_overlap(with_it: float, state: str) -> None:
    traces = {
        f"trace_steps.{ahead}": {"copy_s": 0.01, "step_s": 0.04, "overlapped": share}
        for ahead, share in ((0, 0.0), (2, with_it))
    }
    assert states(overlap(ground(program=traces))) == [state]


def test_memory_that_stays_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TRIALS", 3)
    monkeypatch.setattr(memory, "RELEASE_S", 0.0)
    clean, leaking = FakeNvml(), FakeNvml()
    leaking.used_mib = [600.0, 600.0, 612.0, 612.0]

    assert states(memory.left(ground(nvml=clean))) == ["holds"]
    lines = memory.left(ground(nvml=leaking))
    assert states(lines) == ["fails"]
    assert "12.0 MiB" in lines[0].measured


@pytest.mark.parametrize(
    ("seen_mib", "expected"),
    [(1_522.0, "holds"), (1_500.0, "fails"), (1_900.0, "holds"), (3_000.0, "fails")],
)
def test_nvml_and_tensorflow_agree_on_memory(
    seen_mib: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context of 500 MiB, and a step of 1 GiB by TensorFlow's own count."""
    monkeypatch.setattr(memory, "context_only", contextlib.nullcontext)
    nvml = FakeNvml()
    nvml.used_mib = [600.0, 1_100.0, 600.0]
    trial = on_gpu(device_peak_mib=1_024.0, gpu=GpuReadings(device_used_mib=seen_mib, looks=9))
    assert states(memory.memory(ground(lambda spec: trial, nvml))) == [expected, "holds"]


def rows(*ended: tuple[int, str]) -> list[TrialRow]:
    def failure(state: str) -> TrialFailure | None:
        return None if state == "complete" else TrialFailure(kind="device_oom", detail="OOM")

    return [
        TrialRow.model_validate(
            {
                "number": number,
                "config": PipelineConfig(batch_size=size, prefetch_buffer=1, map_parallelism=1),
                "state": state,
                "failure": failure(state),
                "measured": MEASURED if state == "complete" else None,
            }
        )
        for number, (size, state) in enumerate(ended)
    ]


MEASURED = {
    "config": PipelineConfig(batch_size=2, prefetch_buffer=1, map_parallelism=1).model_dump(),
    "examples_per_s": 1.0,
    "ci": {"low": 0.9, "high": 1.1},
    "host_peak_mib": 1.0,
    "device_peak_mib": 1.0,
    "host_speed_index": 1.0,
    "measured_s": 1.0,
    "mlflow_run_id": "r",
}


def test_running_out_of_device_memory_is_infeasible_and_avoided() -> None:
    learned = rows((1_024, "infeasible"), (2_048, "infeasible"), (2, "complete"), (4, "complete"))
    failed = rows((1_024, "failed"), (2, "complete"), (2_048, "failed"), (1_024, "failed"))

    assert states(failures.judged(learned)) == ["holds", "holds"]
    assert states(failures.judged(failed)) == ["fails", "fails"]


def test_clocks_are_read_beside_the_trial() -> None:
    slowed = GpuReadings(sm_clock_mhz=1_200.0, clock_events=["hw_slowdown"], looks=40)
    lines = failures.clocks(ground(lambda spec: on_gpu(gpu=slowed)))

    assert states(lines) == ["holds"]
    assert "held back by hw_slowdown" in lines[0].measured
    with pytest.raises(CheckError):
        failures.clocks(ground())


def test_what_fails_is_a_line_and_the_others_go_on() -> None:
    kept: list[int] = []
    checks: dict[str, Any] = {}

    @check("broken", checks)
    def broken(_: Ground) -> list[Line]:
        raise CheckError("the trial crashed")

    check("seen", checks)(presence.seen)
    at = ground(program={"show_device": {"gpus": 1, "name": "H100", "error": 0.0}})
    lines = run_checks(checks, at, lambda lines: kept.append(len(lines)))

    assert states(lines) == ["fails", "holds"]
    assert lines[0].measured == "the trial crashed"
    assert kept == [1, 2]
    with pytest.raises(ValueError, match="already"):
        check("seen", checks)(presence.seen)


def test_a_program_that_ends_badly_says_why() -> None:
    with pytest.raises(ProgramError, match="No module named"):
        run_program("benchmarks.gpu_check.not_there")


def test_both_documents_say_what_the_machine_is(tmp_path: Path) -> None:
    gpu = Gpu(FakeNvml(), {}).open()
    facts = machine(gpu, {"tensorflow": "2.21.0"})
    line = Line(name="a | b", planted="p", expected="e", measured="m", state="holds")
    page, document = markdown(facts, [line], 60.0), json.loads(as_json(facts, [line], 60.0))

    assert "NVIDIA H100" in page
    assert "570.86.15" in page
    assert "a \\| b" in page
    assert document["machine"]["CUDA of the driver"] == "12.8"
    assert document["checks"][0]["state"] == "holds"


def test_one_check_again_takes_its_place_and_leaves_the_others() -> None:
    def line(name: str, state: str) -> Line:
        return Line.model_validate(
            {"name": name, "planted": "", "expected": "", "measured": "", "state": state}
        )

    facts = machine(Gpu(FakeNvml(), {}).open(), {"tensorflow": "2.21.0"})
    earlier = as_json(facts, [line("a", "fails"), line("b", "holds")], 300.0)
    again = {what: words for what, words in facts.items() if what != "TensorFlow"}

    found, lines = kept(earlier, again, [line("a", "holds"), line("c", "holds")])
    assert [(each.name, each.state) for each in lines] == [
        ("a", "holds"),
        ("b", "holds"),
        ("c", "holds"),
    ]
    assert found == facts
    assert kept(earlier, again | {"gpu": "another"}, [line("a", "holds")])[1] == lines[:1]


def test_every_module_of_checks_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--only", "-"], Gpu(FakeNvml(), {}))

    assert sorted(CHECKS) == sorted(
        [
            *("seen", "fork", "visible", "windows", "utilisation", "overlap"),
            *("out of memory", "clocks", "left", "memory"),
        ]
    )
