"""Measurements as pieces of work, which this host or the nodes of a cluster carry out.

A piece is a generator: it yields each call of the runner that it needs, and receives the answer. So
it doesn't know where it is measured, and one thread can carry out many pieces, one on each node.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.cores import usable_cores

T = TypeVar("T")
# After so many lost nodes, a measurement isn't tried on a further one.
LOSSES = 2


class NodeLostError(Exception):
    """The node that was measuring is gone. The piece may ask again, and gets another node."""


@dataclass(frozen=True)
class Call:
    """A measurement, as one of the runner's methods and its arguments."""

    method: Literal["measure", "measure_limit"]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def measure(cls, spec: TrialSpec) -> Call:
        """The measurement of one configuration."""
        return cls("measure", (spec,))

    def on(self, runner: TrialRunner) -> Any:
        """Makes the call."""
        return getattr(runner, self.method)(*self.arguments, **self.options)


# Yields calls, receives what they return, and returns what the piece is for.
Piece = Generator[Call, Any, T]


class Pieces(Protocol[T]):
    """Pieces of work that may be carried out at the same time, on different nodes."""

    def next(self) -> Piece[T] | None:
        """The next piece; None if none can begin before another one has ended, or at all."""

    def ended(self, found: T) -> None:
        """Takes what a piece returned."""


class Hosts(Protocol):
    """Whatever carries pieces out.

    Attributes:
        cores: the cores that a trial may use.
        count: how many hosts measure at the same time.
    """

    cores: float
    count: int

    def carry_out(self, pieces: Pieces[Any]) -> None:
        """Carries out pieces until there is no next one and all have ended."""


class ThisHost:
    """Carries out one piece after another with the runner of this process."""

    def __init__(self, runner: TrialRunner) -> None:
        self._runner = runner
        self.cores, self.count = usable_cores(), 1

    def carry_out(self, pieces: Pieces[Any]) -> None:
        """See `Hosts`."""
        while (piece := pieces.next()) is not None:
            pieces.ended(carry_out(piece, self._runner))


def asked_again(call: Call) -> Piece[Any]:
    """The call's answer, from another node if the first one is lost.

    A second node that is lost may not be chance, so then the answer is a failure.
    """
    for _ in range(LOSSES):
        try:
            return (yield call)
        except NodeLostError as error:
            last = error
    return TrialFailure(kind="crash", detail=f"{LOSSES} nodes were lost with it, the last: {last}")


def carry_out(piece: Piece[T], runner: TrialRunner) -> T:
    """Carries out one piece here. An interrupt reaches the piece where it waits for its answer."""
    try:
        call = next(piece)
        while True:
            try:
                answer = call.on(runner)
            except BaseException as error:
                call = piece.throw(error)
            else:
                call = piece.send(answer)
    except StopIteration as end:
        found: T = end.value
        return found
