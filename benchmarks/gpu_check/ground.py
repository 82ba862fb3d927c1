"""What the checks measure with: a runner for trials, NVML, and programs in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig

PLANTED = "benchmarks.gpu_check.planted"
# Long enough to see that a trial runs.
SHORT = StopRule(window_s=0.05, startup_s=0.05, min_windows=3, max_s=0.15)
PROGRAM_DEADLINE_S = 180.0


class CheckError(RuntimeError):
    """A check could not be measured; the message says what failed."""


class ProgramError(CheckError):
    """A program failed or took too long; the message says how it ended."""


Program = Callable[..., dict[str, Any]]


def run_program(module: str, *arguments: str) -> dict[str, Any]:
    """Runs `python -m module` and returns the JSON object in its last line of output.

    Raises:
        ProgramError: it failed, or took longer than three minutes.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PROGRAM_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{module} took longer than {PROGRAM_DEADLINE_S:g} s") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        last = said[-1] if said else "nothing"
        raise ProgramError(f"{module} ended with exit code {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@dataclass
class Ground:
    """The device under check.

    Attributes:
        device: "gpu"; tests on a host without a GPU run the same checks on its processor.
        facts: facts about the machine, for the documents.
    """

    runner: TrialRunner
    gpu: Gpu
    program: Program = run_program
    device: Device = "gpu"
    facts: dict[str, str] = field(default_factory=dict)

    def attempt(
        self, target: str, *, batch_size: int, stop: StopRule = SHORT
    ) -> Measurement | TrialFailure:
        """Measures one configuration, which may fail."""
        config = PipelineConfig(batch_size=batch_size, prefetch_buffer=2, map_parallelism=1)
        spec = TrialSpec.model_validate(
            {"pipeline": target, "config": config, "device": self.device, "stop": stop}
        )
        return self.runner.measure(spec)

    def trial(self, target: str, *, batch_size: int, stop: StopRule = SHORT) -> Measurement:
        """Measures one configuration.

        Raises:
            CheckError: the trial failed.
        """
        found = self.attempt(target, batch_size=batch_size, stop=stop)
        if isinstance(found, TrialFailure):
            raise CheckError(f"{target}: {found.kind}: {found.detail}")
        return found

    def step_s(self, target: str, batch_size: int) -> float:
        """Seconds per step on ready batches.

        Raises:
            CheckError: it could not be measured.
        """
        terms = self.runner.measure_limit(target, batch_size, 0, self.device, vectorized=False)
        if isinstance(terms, TrialFailure):
            raise CheckError(f"{target}: {terms.kind}: {terms.detail}")
        assert isinstance(terms, LimitTerms)
        return batch_size / terms.step_examples_per_s
