"""The registry of the checks, a dict and a decorator, and the function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from benchmarks.audit.judging import Line, State
from benchmarks.bench import say
from benchmarks.gpu_check.ground import CheckError, Ground


class Checked(BaseModel):
    """One check that was run: its name, the day, the seconds it took and its lines."""

    model_config = ConfigDict(frozen=True)

    check: str
    date: str
    seconds: float
    lines: list[Line]


Check = Callable[[Ground], list[Line]]
CHECKS: dict[str, Check] = {}


def check(name: str, checks: dict[str, Check] = CHECKS) -> Callable[[Check], Check]:
    """Registers a function as a check.

    Raises:
        ValueError: the name is taken, so one of the two would never run.
    """

    def register(function: Check) -> Check:
        if name in checks:
            raise ValueError(f"there is a check {name!r} already; choose another name")
        checks[name] = function
        return function

    return register


def run_checks(
    checks: Mapping[str, Check], ground: Ground, keep: Callable[[list[Checked]], None]
) -> list[Checked]:
    """Runs one check after another; after each, `keep` gets all results so far.

    A lent machine may be taken away at any moment, so `keep` can save what was found by then.
    """
    found: list[Checked] = []
    for name, function in checks.items():
        began = time.monotonic()
        lines = _lines_of(name, function, ground)
        seconds = time.monotonic() - began
        today = f"{datetime.now():%Y-%m-%d}"
        found.append(Checked(check=name, date=today, seconds=round(seconds, 1), lines=lines))
        say(f"{name}: {seconds:.0f} s")
        for each in lines:
            say(f"  {each.state}: {each.name}: {each.measured}")
        keep(found)
    return found


def _lines_of(name: str, function: Check, ground: Ground) -> list[Line]:
    try:
        return function(ground)
    except CheckError as error:
        said = str(error)
    except Exception as error:  # must not cost the other checks their time on a lent machine
        said = f"{type(error).__name__}: {error}"
    return [line(name, "", "a measurement", said, "fails")]


def line(name: str, planted: str, expected: str, found: str, state: State) -> Line:
    """One row of the table."""
    return Line(name=name, planted=planted, expected=expected, measured=found, state=state)


def holds(condition: bool) -> State:
    """The state of a fact; unlike an estimate it is never *undecided*."""
    return "holds" if condition else "fails"


def chosen(names: Iterable[str] | None) -> dict[str, Check]:
    """The checks of these names, or all of them.

    Raises:
        KeyError: there is no check of such a name.
    """
    return {name: CHECKS[name] for name in names} if names else dict(CHECKS)
