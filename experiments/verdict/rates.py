"""One candidate's rates in rounds, with the node that each round ran on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Rates(list[float]):
    """One candidate's rates in rounds, in examples/s, or another of its values.

    Attributes:
        nodes: the cluster's node that measured each round; empty without a cluster.
    """

    def __init__(self, rates: Iterable[float] = (), nodes: Sequence[str] = ()) -> None:
        super().__init__(rates)
        self.nodes = tuple(nodes)
