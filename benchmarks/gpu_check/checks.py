"""The checks: a dict, a decorator, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from benchmarks.audit.judging import Line, State
from benchmarks.bench import say
from benchmarks.gpu_check.ground import CheckError, Ground

Check = Callable[[Ground], list[Line]]
CHECKS: dict[str, Check] = {}


def check(name: str, checks: dict[str, Check] = CHECKS) -> Callable[[Check], Check]:
    """Registers a function as a check.

    Raises:
        ValueError: the name is taken; one of the two would never be run.
    """

    def register(function: Check) -> Check:
        if name in checks:
            raise ValueError(f"there is a check {name!r} already; choose another name")
        checks[name] = function
        return function

    return register


def run_checks(
    checks: Mapping[str, Check], ground: Ground, keep: Callable[[list[Line]], None]
) -> list[Line]:
    """Runs one check after the other; `keep` is given all lines so far after each of them.

    A device machine may be taken away at any moment: what was found by then is kept.
    """
    lines: list[Line] = []
    for name, function in checks.items():
        began = time.monotonic()
        lines += _lines_of(name, function, ground)
        say(f"{name}: {time.monotonic() - began:.0f} s")
        for line in lines[-1:]:
            say(f"  {line.state}: {line.measured}")
        keep(lines)
    return lines


def _lines_of(name: str, function: Check, ground: Ground) -> list[Line]:
    try:
        return function(ground)
    except CheckError as error:
        return [line(name, "", "a measurement", str(error), "fails")]


def line(name: str, planted: str, expected: str, found: str, state: State) -> Line:
    """A row of the table."""
    return Line(name=name, planted=planted, expected=expected, measured=found, state=state)


def holds(condition: bool) -> State:
    """Of what is a fact instead of an estimate."""
    return "holds" if condition else "fails"


def chosen(names: Iterable[str] | None) -> dict[str, Check]:
    """The checks of these names, or all of them.

    Raises:
        KeyError: there is no such check.
    """
    return {name: CHECKS[name] for name in names} if names else dict(CHECKS)
