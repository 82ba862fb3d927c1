"""Measures configurations beside each other, and remembers each measurement in a journal."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence

from benchmarks.journal import Journal
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig

# Enough to rank configurations that differ by tens of percent; what differs by less is decided in
# rounds of the default rule.
BRIEF = StopRule(window_s=0.1, startup_s=0.2, min_windows=3, max_s=0.3)
# A configuration that needs longer than this for its first windows is not worth waiting for.
BRIEF_DEADLINE_S = 30.0

# Candidate to its rate in examples/s; one that failed in that round is missing.
Rates = dict[str, float]


class Bench:
    """A runner and the journal of what it measured.

    A trial that fails is written down with what it said, and is not run again.
    """

    def __init__(
        self, runner: TrialRunner, journal: Journal, seed: int = 0, device: Device = "auto"
    ) -> None:
        self.runner = runner
        self.journal = journal
        self.seed = seed
        self.device = device

    def rate(
        self,
        part: str,
        key: str,
        target: str,
        config: PipelineConfig,
        stop: StopRule | None = None,
    ) -> float | None:
        """Examples/s of one trial, out of the journal if it was run before; None if it failed.

        Args:
            part: of its line.
            key: of its line.
            target: `module:attribute` of the pipeline.
            config: a line of another configuration is not taken for this one's.
            stop: by default that of a study's trials.
        """
        line = self.journal.find(part, key)
        if line is None or line["config"] != config.model_dump(mode="json"):
            spec = TrialSpec(pipeline=target, config=config, seed=self.seed, device=self.device)
            if stop is not None:
                changes = {"stop": stop, "deadline_s": BRIEF_DEADLINE_S}
                spec = spec.model_copy(update=changes)
            result = self.runner.measure(spec)
            if isinstance(result, TrialFailure):
                say(f"{part} {key}: {config} failed, {result.kind}: {result.detail}")
                found: dict[str, object] = {"examples_per_s": None, "failure": result}
            else:
                found = {
                    "examples_per_s": result.examples_per_s,
                    "host_speed_index": result.host_speed_index,
                    "settled": result.settled,
                }
            line = self.journal.add(part, key, config=config, **found)
        rate: float | None = line["examples_per_s"]
        return rate

    def rounds(
        self, part: str, target: str, configs: Mapping[str, PipelineConfig], count: int
    ) -> list[Rates]:
        """Every candidate once per round, each in a fresh process, in an order that chance decides.

        A run that was cut off goes on in the middle of a round.
        """
        measured: list[Rates] = []
        for number in range(count):
            order = sorted(configs)
            random.Random(f"{part}/{number}").shuffle(order)  # noqa: S311
            rates: Rates = {}
            for name in order:
                rate = self.rate(part, f"{number:02d}/{name}", target, configs[name])
                if rate is not None:
                    rates[name] = rate
            measured.append(rates)
            say(f"{part}: round {number + 1} of {count}")
        return measured


def kept_rounds(journal: Journal, part: str) -> list[Rates]:
    """What `Bench.rounds` wrote down of a part, in its order, without measuring anything."""
    found: dict[str, Rates] = {}
    for line in sorted(journal.of(part), key=lambda line: str(line["key"])):
        number, _, name = line["key"].partition("/")
        rates = found.setdefault(number, {})
        if line["examples_per_s"] is not None:
            rates[name] = line["examples_per_s"]
    return list(found.values())


def paired(rounds: Sequence[Rates], *names: str) -> list[list[float]]:
    """The rates of each candidate, of those rounds that have all of them."""
    whole = [rates for rates in rounds if all(name in rates for name in names)]
    return [[rates[name] for rates in whole] for name in names]


def say(text: str) -> None:
    """Progress, beside what is printed as a result."""
    print(text, file=sys.stderr, flush=True)
