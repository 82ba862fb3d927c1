"""Measures what helps against each symptom and writes the tables of docs/symptoms.md.

.venv/bin/python -m benchmarks.symptoms                 all symptoms, about ten minutes
.venv/bin/python -m benchmarks.symptoms --only memory   one of them
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from benchmarks.bench import say
from benchmarks.markers import DocumentError, rewrite
from benchmarks.symptoms.cases import CASES, NOW, Case
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.experiments.report.text import times
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "symptoms.md"
ROUNDS = 5

# What a change measured, one entry per round.
Rounds = dict[str, list[Measurement | TrialFailure]]


def main(given: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 if the document has no place for a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    keys = [case.key for case in CASES]
    parser.add_argument("--only", action="append", choices=keys, help="this symptom; repeatable")
    chosen = parser.parse_args(given).only or keys
    alone = measured_alone(len(chosen))
    try:
        with TrialRunner() as runner:
            for case in CASES:
                if case.key in chosen:
                    say(case.key)
                    lines = list(table(case, measure(runner, case)))
                    rewrite(DOCUMENT, case.key, [*lines, *alone])
        if not alone:
            rewrite(DOCUMENT, "host", [heading()])
    except DocumentError as error:
        say(f"error: {error}")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        say("stopped; the finished tables are written")
        return EXIT_INTERRUPTED
    return EXIT_OK


def measure(runner: TrialRunner, case: Case) -> Rounds:
    """Measures every change once per round, in random order, each in a fresh process."""
    found: Rounds = {change.words: [] for change in case.changes}
    for number in range(ROUNDS):
        order = list(case.changes)
        random.Random(f"{case.key}/{number}").shuffle(order)  # noqa: S311
        for change in order:
            spec = TrialSpec(pipeline=change.target or case.target, config=change.config)
            result = runner.measure(spec)
            found[change.words].append(result)
            if isinstance(result, TrialFailure):
                say(f"{case.key}, {change.words}: {result.kind}: {result.detail}")
    return found


def table(case: Case, rounds: Rounds) -> Iterator[str]:
    """The rows of a symptom's table, in the order of its changes."""
    yield "| change | examples/s | over AUTOTUNE | peak MiB | first batch |"
    yield "|---|---:|---:|---:|---:|"
    for change in case.changes:
        yield row(change.words, rounds)


def row(words: str, rounds: Rounds) -> str:
    """A change's medians, and its ratio to AUTOTUNE in the rounds that measured both."""
    pairs = [
        (one, now)
        for one, now in zip(rounds[words], rounds[NOW], strict=True)
        if isinstance(one, Measurement) and isinstance(now, Measurement)
    ]
    if not pairs:
        return f"| {words} | failed | - | - | - |"
    measured = [one for one, _ in pairs]
    rate = statistics.median(one.examples_per_s for one in measured)
    peak_mib = statistics.median(one.host_peak_mib for one in measured)
    first_s = statistics.median(one.first_batch_s for one in measured)
    ratio = ratio_to([one.examples_per_s for one in measured], [n.examples_per_s for _, n in pairs])
    said = "1x" if words == NOW else times(ratio)
    return f"| {words} | {rate:,.0f} | {said} | {peak_mib:,.0f} | {first_s:.2f} s |"


def measured_alone(chosen: int) -> list[str]:
    """The machine and the day of a table that wasn't measured with all others."""
    return [] if chosen == len(CASES) else ["", f"Measured on {day_and_host()}."]


def heading() -> str:
    """The machine and the day of all tables that don't name their own."""
    return (
        f"Measured by `make symptoms` on {day_and_host()}. Medians of {ROUNDS} "
        "interleaved rounds in fresh processes, with the 95% interval of the ratio."
    )


def day_and_host() -> str:
    """Today's date and what this machine is."""
    return f"{datetime.now():%Y-%m-%d}: {host_description()}"


if __name__ == "__main__":
    raise SystemExit(main())
