"""The registry of the audits' parts, a dict and a decorator, and the function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.audit.access import NotMeasuredError, UnavailableError
from benchmarks.audit.ground import AuditBench
from benchmarks.audit.judging import Line, State
from benchmarks.bench import say
from prefetch_tuning.pipelines.source import PipelineError

Measure = Callable[[AuditBench], list[Line]]


@dataclass(frozen=True)
class Part:
    """One claim, or a few that share their measurements.

    Attributes:
        full: whether it needs whole studies and so belongs to the full audit only.
    """

    name: str
    full: bool
    measure: Measure


PARTS: dict[str, Part] = {}


def part(
    name: str, *, full: bool = False, parts: dict[str, Part] = PARTS
) -> Callable[[Measure], Measure]:
    """Registers a function as a part.

    Raises:
        ValueError: the name is taken, so one of the two would never run.
    """

    def register(measure: Measure) -> Measure:
        if name in parts:
            raise ValueError(f"there is a part {name!r} already; choose another name")
        parts[name] = Part(name, full, measure)
        return measure

    return register


def run_parts(parts: Iterable[Part], bench: AuditBench) -> list[Line]:
    """Measures one part after another and records the lines of each when it ends.

    The journal has what a part measured before it was cut off, so running it again resumes there.
    """
    found: list[Line] = []
    for each in parts:
        say(f"part {each.name}")
        began = time.monotonic()
        lines = _measured(each, bench)
        bench.journal.add("lines", each.name, lines=lines, seconds=time.monotonic() - began)
        for line in lines:
            say(f"{line.state}: {line.name}: {line.measured}")
        found += lines
    return found


def _measured(each: Part, bench: AuditBench) -> list[Line]:
    try:
        return each.measure(bench)
    except (NotMeasuredError, PipelineError) as error:
        return [_without(each, error, "fails")]
    except UnavailableError as error:
        return [_without(each, error, "undecided")]


def _without(each: Part, error: Exception, state: State) -> Line:
    name = each.name.replace("_", " ")
    return Line(name=name, planted="", expected="a measurement", measured=str(error), state=state)
