"""Checks that TensorFlow sees the device, and that settings which ask for it or hide it work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, holds, line
from benchmarks.gpu_check.ground import PLANTED, CheckError, Ground
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner

# TensorFlow computes float32 in TF32 on such devices, and TF32 has ten bits of mantissa.
CLOSE = 1e-2
TINY = f"{PLANTED}:Tiny"
# What the script `prefetch-tune` does; the script itself may not be on the PATH.
COMMAND_LINE = "import sys; from prefetch_tuning.experiments.cli import run; sys.exit(run())"
VISIBLE = "CUDA_VISIBLE_DEVICES"


@check("seen")
def seen(ground: Ground) -> list[Line]:
    """Compares a matrix product on the device with the same product in NumPy."""
    found = ground.program("benchmarks.gpu_check.programs.show_device")
    ground.facts |= {key: str(value) for key, value in found.items() if key != "error"}
    words = (
        f"{found['gpus']} GPU ({found['name']}); a product of 512x512 matrices differs from "
        f"NumPy's by {found['error']:.1e}"
    )
    good = found["gpus"] >= 1 and found["error"] < CLOSE
    return [
        line("TensorFlow sees the GPU", "", "at least one GPU, and it computes", words, holds(good))
    ]


@check("fork")
def fork(ground: Ground) -> list[Line]:
    """Checks that the fork server, which has imported TensorFlow, hasn't touched CUDA."""
    trial = ground.trial(TINY, batch_size=8)
    server = ground.runner.server_pid
    touched = server is not None and opened_by(server)
    forks = ground.runner.forks
    if forks:
        good = not touched and trial.device.startswith(ground.device)
        words = f"trials are forked, the server has {'opened' if touched else 'not opened'} the GPU"
    else:
        good = trial.device.startswith(ground.device)
        words = "importing TensorFlow opens the GPU here, so each trial starts an interpreter"
    return [
        line(
            "CUDA after the fork",
            "a trial in a fresh process",
            "the server hasn't opened the GPU, or trials are not forked",
            f"{words}; the trial ran on {trial.device}",
            holds(good),
        )
    ]


def opened_by(pid: int) -> bool:
    """Whether a process has an NVIDIA device open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if str(descriptor.readlink()).startswith("/dev/nvidia"):
                return True
        except OSError:  # closed in the meantime
            continue
    return False


@check("visible")
def visible(ground: Ground) -> list[Line]:
    """Tries `--device gpu` with the GPU hidden, and `--device auto` with it hidden and visible."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, "diagnose", TINY, "--device", "gpu"],
        env={**os.environ, VISIBLE: ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    said = [text for text in done.stderr.splitlines() if "error:" in text]
    refused = done.returncode == 2 and len(said) == 1 and VISIBLE in said[0]
    hidden, shown = device_of(""), device_of("0") if ground.device == "gpu" else "not tried"
    followed = hidden == "cpu" and (shown.startswith("gpu") or ground.device != "gpu")
    return [
        line(
            "--device gpu, hidden",
            f"{VISIBLE} is empty",
            "exit code 2, one line that names the variable",
            f"exit code {done.returncode}: {said[0] if said else done.stderr[-200:]!r}",
            holds(refused),
        ),
        line(
            "--device auto",
            f"{VISIBLE} is empty, then 0",
            "the processor, then the GPU",
            f"{hidden}, then {shown}",
            holds(followed),
        ),
    ]


def device_of(visible_devices: str) -> str:
    """The device that a pipeline is inspected on with this CUDA_VISIBLE_DEVICES.

    Raises:
        CheckError: the pipeline can't be inspected.
    """
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = visible_devices
    try:
        with TrialRunner() as runner:
            info = runner.try_inspect(TINY, 0, "auto")
    finally:
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before
    if isinstance(info, TrialFailure):
        raise CheckError(info.detail)
    return info.device
