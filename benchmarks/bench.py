"""Measures configurations side by side and records each measurement in a journal."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.journal import Journal
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig

# Long enough to rank configurations that differ by tens of percent. Smaller differences are decided
# in rounds with the default rule.
BRIEF = StopRule(window_s=0.1, startup_s=0.2, min_windows=3, max_s=0.3)
# A configuration whose trial takes so much longer than it counts isn't worth waiting for.
BRIEF_DEADLINE_S = 30.0

# Maps each candidate to its rate in examples/s. A candidate that failed in the round is missing.
Rates = dict[str, float]


@dataclass(frozen=True)
class Asked:
    """One measurement: its place in the journal, and what `Bench.rate` says of the others."""

    part: str
    key: str
    target: str
    config: PipelineConfig
    stop: StopRule | None = None
    deadline_s: float | None = None

    @property
    def pinned(self) -> dict[str, Any]:
        """What a journal's line must have to be of the same measurement."""
        return {
            "config": self.config.model_dump(mode="json"),
            "target": self.target,
            "stop": None if self.stop is None else self.stop.model_dump(mode="json"),
        }


class Bench:
    """A runner and the journal of its measurements.

    A failed trial is recorded with its failure and isn't run again.
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
        deadline_s: float | None = None,
    ) -> float | None:
        """Examples/s of one trial, from the journal if it ran before; None if it failed.

        Args:
            part: the part of its journal line.
            key: the key of its journal line.
            target: `module:attribute` of the pipeline.
            config: what to measure; a journal line of another configuration isn't used.
            stop: the stop rule; by default that of a study's trials.
            deadline_s: seconds that a trial may take beside its measuring; by default 30 with a
                stop rule, and as long as a study's trial without one.
        """
        line = self.measured(part, key, target, config, stop, deadline_s)
        rate: float | None = line["examples_per_s"]
        return rate

    def measured(
        self,
        part: str,
        key: str,
        target: str,
        config: PipelineConfig,
        stop: StopRule | None = None,
        deadline_s: float | None = None,
    ) -> dict[str, Any]:
        """The journal line of one trial, measured unless it is there; arguments as for `rate`.

        It has `examples_per_s`, which is None if the trial failed. Otherwise it also has
        `host_peak_mib` and `first_batch_s`.
        """
        asked = Asked(part, key, target, config, stop, deadline_s)
        return self._kept(asked) or self._measure(asked)

    def _kept(self, asked: Asked) -> dict[str, Any] | None:
        """The journal's line, if it is of the same measurement."""
        line = self.journal.find(asked.part, asked.key)
        # Older lines have only the configuration.
        is_same = line is not None and all(
            line.get(name, value) == value for name, value in asked.pinned.items()
        )
        return line if is_same else None

    def _measure(self, asked: Asked) -> dict[str, Any]:
        spec = TrialSpec(
            pipeline=asked.target, config=asked.config, seed=self.seed, device=self.device
        )
        deadline_s = asked.deadline_s
        if asked.stop is not None:
            deadline_s = BRIEF_DEADLINE_S if deadline_s is None else deadline_s
            spec = spec.model_copy(update={"stop": asked.stop})
        if deadline_s is not None:
            spec = spec.model_copy(update={"deadline_s": deadline_s + spec.stop.longest_s})
        result = self.runner.measure(spec)
        if isinstance(result, TrialFailure):
            what = f"{asked.part} {asked.key}: {asked.config}"
            say(f"{what} failed, {result.kind}: {result.detail}")
            found: dict[str, object] = {"examples_per_s": None, "failure": result}
        else:
            found = {
                "examples_per_s": result.examples_per_s,
                "host_peak_mib": result.host_peak_mib,
                "first_batch_s": result.first_batch_s,
                "host_speed_index": result.host_speed_index,
                "settled": result.settled,
            }
        return self.journal.add(asked.part, asked.key, **asked.pinned, **found)

    def rounds(
        self,
        part: str,
        target: str | Mapping[str, str],
        configs: Mapping[str, PipelineConfig],
        count: int,
        deadline_s: float | None = None,
    ) -> list[Rates]:
        """Measures every candidate once per round, in random order, each in a fresh process.

        `target` is the pipeline of all candidates, or of each by its name. A round that was cut
        off, or that lacks a candidate, is measured anew as a whole, because the host may have
        changed.
        """
        measured: list[Rates] = []
        for number in range(count):
            order = sorted(configs)
            random.Random(f"{part}/{number}").shuffle(order)  # noqa: S311
            asked = {
                name: Asked(
                    part,
                    f"{number:02d}/{name}",
                    target if isinstance(target, str) else target[name],
                    configs[name],
                    deadline_s=deadline_s,
                )
                for name in order
            }
            lines = {name: self._kept(each) for name, each in asked.items()}
            if not all(lines.values()):
                lines = {name: self._measure(each) for name, each in asked.items()}
            rates = {name: line["examples_per_s"] for name, line in lines.items() if line}
            measured.append({name: rate for name, rate in rates.items() if rate is not None})
            say(f"{part}: round {number + 1} of {count}")
        return measured


def kept_rounds(journal: Journal, part: str) -> list[Rates]:
    """The rounds of a part that the journal has, in order; measures nothing."""
    found: dict[str, Rates] = {}
    for line in sorted(journal.of(part), key=lambda line: str(line["key"])):
        number, _, name = line["key"].partition("/")
        rates = found.setdefault(number, {})
        if line["examples_per_s"] is not None:
            rates[name] = line["examples_per_s"]
    return list(found.values())


def paired(rounds: Sequence[Rates], *names: str) -> list[list[float]]:
    """The rates of each candidate in those rounds that measured all of them."""
    whole = [rates for rates in rounds if all(name in rates for name in names)]
    return [[rates[name] for rates in whole] for name in names]


def say(text: str) -> None:
    """Prints progress to stderr, so stdout has only results."""
    print(text, file=sys.stderr, flush=True)
