"""The checks of `make gpu-check`, run on stand-ins for NVML, the trials and the programs."""

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
from benchmarks.gpu_check.checks import CHECKS, Checked, check, run_checks
from benchmarks.gpu_check.claims import failures, memory, presence, timing
from benchmarks.gpu_check.claims.overlap import common, length, merged, overlap
from benchmarks.gpu_check.document import as_json, kept, machine, markdown
from benchmarks.gpu_check.ground import CheckError, Ground, ProgramError, run_program
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, TrialSpec
from tests.support import report_records
from tests.support.fake_nvml import FakeNvml
from tests.support.fakes import LIMIT_TERMS, measurement

Answer = Measurement | TrialFailure


class Trials(TrialRunner):
    """Answers each trial from its spec, without a process."""

    def __init__(self, answer: Callable[[TrialSpec], Answer], step_s: float = 0.025) -> None:
        super().__init__()
        self.answer = answer
        self.step_s = step_s
        self.specs: list[TrialSpec] = []

    def measure(self, spec: TrialSpec) -> Answer:
        self.specs.append(spec)
        return self.answer(spec)

    def measure_limit(
        self,
        pipeline: str,
        batch_size: int,
        seed: int,
        device: Device,
        *,
        vectorized: bool,
        cached: bool = False,
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
    """Planted: a 25 ms step, slow rows at 50 ms per batch, and an NVML that says half busy."""
    rates = {"slow_rows": 8 / 0.05, "quick_rows": 8 / 0.025}

    def answer(spec: TrialSpec) -> Answer:
        return on_gpu(next(rate for rows, rate in rates.items() if rows in spec.pipeline))

    nvml = FakeNvml()
    nvml.percents = [50]
    lines = timing.utilisation(ground(answer, nvml))

    # NVML's 50% is right for the slow rows only. A sleep of the same length predicts both.
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


@pytest.mark.parametrize(("with_it", "state"), [(0.8, "holds"), (0.0, "undecided")])
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
    [(1_521.0, "holds"), (1_500.0, "fails"), (1_900.0, "holds"), (3_000.0, "fails")],
)
def test_nvml_and_tensorflow_agree_on_memory(
    seen_mib: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: a context of 500 MiB, and a step of 1 GiB by TensorFlow's own count."""
    monkeypatch.setattr(memory, "context_only", contextlib.nullcontext)
    nvml = FakeNvml()
    nvml.used_mib = [600.0, 1_100.0, 600.0]
    trial = on_gpu(device_peak_mib=1_024.01, gpu=GpuReadings(device_used_mib=seen_mib, looks=9))
    assert states(memory.memory(ground(lambda spec: trial, nvml))) == [expected, "holds"]


def study(sizes: list[int], *, diagnosed: bool = True) -> StudyRecord:
    """A record with one measured trial per batch size."""
    record = report_records.full()
    measured = next(row for row in record.trials if row.measured is not None)
    trials = [
        measured.model_copy(
            update={"config": measured.config.model_copy(update={"batch_size": size})}
        )
        for size in sizes
    ]
    diagnosis = record.result.diagnosis if diagnosed else None
    result = record.result.model_copy(update={"diagnosis": diagnosis})
    return record.model_copy(update={"trials": trials, "result": result})


@pytest.mark.parametrize(
    ("sizes", "diagnosed", "state"),
    [
        ([2, 4, 4], True, "holds"),
        ([2, 1_024], True, "fails"),
        ([2, 4], False, "fails"),
        ([], True, "fails"),
    ],
)
def test_a_study_tries_nothing_that_does_not_fit(
    sizes: list[int], diagnosed: bool, state: str
) -> None:
    assert states(failures.judged(study(sizes, diagnosed=diagnosed))) == [state]


@pytest.mark.parametrize(
    ("kind", "fits_after", "state"),
    [("device_oom", True, "holds"), ("crash", True, "fails"), ("device_oom", False, "fails")],
)
def test_a_trial_that_does_not_fit_is_told_apart(
    kind: str, fits_after: bool, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "study_of_hungry", lambda: study([2]))
    failure = TrialFailure.model_validate({"kind": kind, "detail": "OOM"})

    def answer(spec: TrialSpec) -> Answer:
        fits = spec.config.batch_size <= 4 and fits_after
        return on_gpu() if fits else failure

    assert states(failures.out_of_memory(ground(answer)))[0] == state


def test_clocks_are_read_beside_the_trial() -> None:
    slowed = GpuReadings(sm_clock_mhz=1_200.0, clock_events=["hw_slowdown"], looks=40)
    lines = failures.clocks(ground(lambda spec: on_gpu(gpu=slowed)))

    assert states(lines) == ["holds"]
    assert "held back by hw_slowdown" in lines[0].measured
    with pytest.raises(CheckError):
        failures.clocks(ground())


def test_a_driver_that_tells_no_reasons_is_not_taken_for_one_that_has_none() -> None:
    silent = FakeNvml(
        refused=(
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetCurrentClocksThrottleReasons",
        )
    )
    seen = GpuReadings(sm_clock_mhz=1_980.0, looks=40)

    lines = failures.clocks(ground(lambda spec: on_gpu(gpu=seen), silent))

    assert states(lines) == ["fails"]
    assert "not reported by the driver" in lines[0].measured


def test_what_fails_is_a_line_and_the_others_go_on() -> None:
    kept: list[int] = []
    checks: dict[str, Any] = {}

    @check("broken", checks)
    def broken(_: Ground) -> list[Line]:
        raise CheckError("the trial crashed")

    @check("hanging", checks)
    def hanging(_: Ground) -> list[Line]:
        raise TimeoutError("no answer")

    check("seen", checks)(presence.seen)
    at = ground(program={"show_device": {"gpus": 1, "name": "H100", "error": 0.0}})
    found = run_checks(checks, at, lambda found: kept.append(len(found)))
    lines = [line for each in found for line in each.lines]

    assert states(lines) == ["fails", "fails", "holds"]
    assert [line.measured for line in lines[:2]] == [
        "the trial crashed",
        "TimeoutError: no answer",
    ]
    assert [each.check for each in found] == ["broken", "hanging", "seen"]
    assert kept == [1, 2, 3]
    with pytest.raises(ValueError, match="already"):
        check("seen", checks)(presence.seen)


def test_a_program_that_ends_badly_says_why() -> None:
    with pytest.raises(ProgramError, match="No module named"):
        run_program("benchmarks.gpu_check.not_there")


def checked(name: str, date: str = "2026-11-26", **states: str) -> Checked:
    """A check with this name and one line per keyword, which gives the line's name and state."""
    lines = [
        {"name": line, "planted": "p", "expected": "e", "measured": "m", "state": state}
        for line, state in states.items()
    ]
    return Checked.model_validate({"check": name, "date": date, "seconds": 60.0, "lines": lines})


def facts(**known: str) -> dict[str, str]:
    return machine(Gpu(FakeNvml(), {}).open(), known)


def test_both_documents_say_what_the_machine_is_and_what_was_not_run() -> None:
    found = [checked("a", a="holds"), checked("b", "2026-11-27", b="fails")]
    page = markdown(facts(tensorflow="2.21.0"), found, ["a", "b", "c"])
    document = json.loads(as_json(facts(), found))

    assert "NVIDIA H100" in page
    assert "570.86.15" in page
    assert "2 minutes: 1 of 2 hold, 1 fail" in page
    assert "Not run: c." in page
    assert page.index("## 2026-11-26") < page.index("| a |") < page.index("## 2026-11-27")
    assert document["machine"]["CUDA of the driver"] == "12.8"
    assert document["checks"][0]["lines"][0]["state"] == "holds"


def test_a_check_again_takes_the_place_of_all_its_lines_and_leaves_the_others() -> None:
    known = facts(tensorflow="2.21.0")
    earlier = as_json(known, [checked("a", one="fails", two="holds"), checked("b", b="holds")])
    again = [checked("a", "2026-11-27", three="holds"), checked("c", c="holds")]

    found, checks = kept(earlier, facts(), again)

    assert checks == [again[0], checked("b", b="holds"), again[1]]
    assert found == known
    for other in ({"gpu": "another"}, {"TensorFlow": "2.22.0"}):
        assert kept(earlier, known | other, again) == (known | other, again)


def test_a_run_writes_both_documents_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fine(_: Ground) -> list[Line]:
        return checked("fine", fine="holds").lines

    monkeypatch.setattr(command, "TrialRunner", lambda: Trials(lambda spec: on_gpu()))
    monkeypatch.setitem(CHECKS, "fine", fine)
    monkeypatch.setattr(Trials, "start", lambda self: None)
    (tmp_path / "gpu-check.json").write_text(as_json(facts(), [checked("old", old="fails")]))

    code = command.main(["--only", "fine", "--out", str(tmp_path)], Gpu(FakeNvml(), {}))

    assert code == 0
    assert "| fine | p | e | m | *holds* |" in capsys.readouterr().out
    page = (tmp_path / "gpu-check.md").read_text()
    assert "| old |" in page
    assert "| fine |" in page


def test_every_module_of_checks_is_registered(capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--only", "-"], Gpu(FakeNvml(), {}))

    assert sorted(CHECKS) == sorted(
        [
            *("seen", "fork", "visible", "windows", "utilisation", "overlap"),
            *("out of memory", "clocks", "left", "memory"),
        ]
    )
