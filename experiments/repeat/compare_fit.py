"""Times `fit` of a script with its own chain and with another, in turn and in fresh processes."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable, Mapping

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script import PROGRAM

WRITTEN, CONFIGURED = "as written", "configured"
# The last lines of a script that failed.
SHOWN_LINES = 5


def compare_fit(
    target: str,
    configs: Mapping[str, PipelineConfig],
    *,
    steps: int,
    rounds: int,
    said: Callable[[str], None],
) -> Ratio:
    """The rate of `fit` with the configured chain over its rate as the script has it.

    Args:
        target: the script and its arguments.
        configs: the two configurations, by `WRITTEN` and `CONFIGURED`.
        steps: steps of `fit` to time in each run; a shorter training is timed to its end.
        rounds: pairs of runs.
        said: shows a line after each round.

    Raises:
        StudyError: a run failed.
    """
    rates: dict[str, list[float]] = {name: [] for name in configs}
    for number in range(rounds):
        for name in random.sample(sorted(configs), len(configs)):
            rates[name].append(_rate(target, configs[name], steps))
        latest = ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items())
        said(f"round {number + 1} of {rounds}: examples/s in fit: {latest}")
    return ratio_to(rates[CONFIGURED], rates[WRITTEN])


def _rate(target: str, config: PipelineConfig, steps: int) -> float:
    read, write = os.pipe()
    command = [*PROGRAM, target, json.dumps(config.to_params()), "--time", str(steps), str(write)]
    ran = subprocess.Popen(
        command,
        pass_fds=[write],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.close(write)
    output, _ = ran.communicate()
    with os.fdopen(read) as pipe:
        answer = pipe.read()
    if not answer:
        last = "\n".join(output.strip().split("\n")[-SHOWN_LINES:])
        raise StudyError(f"{target} gave no time of its fit; it ended with:\n{last}")
    return float(json.loads(answer)["examples_per_s"])
