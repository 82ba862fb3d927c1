"""Keeps every node of a cluster busy with a piece of work. Knows nothing of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from prefetch_tuning.experiments.cluster.speeds import Speeds
from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.study.work import Call, NodeLostError, Piece, Pieces


class Nodes(Protocol):
    """The nodes of a cluster, each of which makes one call at a time."""

    @property
    def names(self) -> list[str]:
        """The nodes that are alive, as far as is known."""

    def begin(self, node: str, call: Call) -> None:
        """Begins a call on a node."""

    def wait(self) -> tuple[str, Any]:
        """Waits for any call; returns its node and the answer, `NodeLostError` if it is lost."""


@dataclass
class Job:
    """A piece that is carried out, and the call that it waits for."""

    piece: Piece[Any]
    call: Call


class ClusterHosts:
    """Carries pieces out on all nodes at once. A node carries out one piece at a time, whole.

    Rates of different nodes don't mix: a node's own are divided by its speed, which a reference
    shows that it measures beside its pieces.
    """

    def __init__(
        self, nodes: Nodes, speeds: Callable[[], Speeds], warn: Callable[[str], None], cores: float
    ) -> None:
        """Begins nothing yet.

        Args:
            nodes: what measures.
            speeds: makes the speeds of the nodes, before the first piece.
            warn: shows a line if a node is lost.
            cores: cores that a trial may use on every node.
        """
        self._nodes, self._make_speeds, self._warn = nodes, speeds, warn
        self.cores, self.count = cores, len(nodes.names)
        self._running: dict[str, Job] = {}
        # Calls of lost nodes, which wait for another one.
        self._orphans: deque[Job] = deque()

    def carry_out(self, pieces: Pieces[Any]) -> None:
        """Carries out pieces until there is no next one and all have ended.

        Raises:
            StudyError: no node is left.
        """
        try:
            self._begin_idle(pieces)
            while self._running:
                node, answer = self._nodes.wait()
                self._take(node, answer, pieces)
                self._begin_idle(pieces)
            job = self._next(pieces)
            if job is not None:
                self._orphans.append(job)
                raise StudyError(self._nobody)
        finally:
            # After an error or Ctrl-C, each piece records that it was interrupted.
            for job in [*self._running.values(), *self._orphans]:
                job.piece.close()
            self._running.clear()
            self._orphans.clear()

    @property
    def _nobody(self) -> str:
        """Why no node is left, and what to do."""
        if self._nodes.names:
            return (
                "the configuration that nodes are compared by fails on all of them, "
                f"{self._speeds.failure}; check the pipeline, or give a longer --trial-timeout"
            )
        return "no node of the cluster is left; start it anew and resume"

    @cached_property
    def _speeds(self) -> Speeds:
        return self._make_speeds()

    def _begin_idle(self, pieces: Pieces[Any]) -> None:
        for node in self._nodes.names:
            if node in self._running or not self._speeds.is_usable(node):
                continue
            job = self._next(pieces)
            if job is None:
                return
            self._begin(node, job)

    def _next(self, pieces: Pieces[Any]) -> Job | None:
        if self._orphans:
            return self._orphans.popleft()
        piece = pieces.next()
        return None if piece is None else Job(piece, next(piece))

    def _begin(self, node: str, job: Job, *, at_once: bool = False) -> None:
        """Begins the job's call, or first the reference; within a piece `at_once`."""
        self._running[node] = job
        measured_first = not at_once and self._speeds.begin_reference(node)
        call = self._speeds.reference if measured_first else self._speeds.on(node, job.call)
        self._nodes.begin(node, call)

    def _take(self, node: str, answer: Any, pieces: Pieces[Any]) -> None:
        job = self._running.pop(node)
        if isinstance(answer, NodeLostError):
            self._warn(f"{answer}; what it was measuring is measured on another node")
            if self._speeds.is_measuring(node):
                self._orphans.append(job)  # its own call hadn't begun
            else:
                self._go_on(lambda: job.piece.throw(answer), job, pieces, None)
        elif self._speeds.is_measuring(node):
            self._speeds.end_reference(node, answer)
            if self._speeds.is_usable(node):
                self._begin(node, job)
            else:
                self._warn(f"{node} is left out: the reference failed, {self._speeds.failure}")
                self._orphans.append(job)
        else:
            found = self._speeds.relative(node, answer)
            self._go_on(lambda: job.piece.send(found), job, pieces, node)

    def _go_on(
        self, resume: Callable[[], Call], job: Job, pieces: Pieces[Any], node: str | None
    ) -> None:
        """Lets a piece go on, on the same node if it is alive."""
        try:
            job.call = resume()
        except StopIteration as end:
            pieces.ended(end.value)
            return
        if node is None:
            self._orphans.append(job)
        else:
            self._begin(node, job, at_once=True)
