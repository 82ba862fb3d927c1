"""The objectives by name. To add one, write its file and add a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from prefetch_tuning.objectives.objective import Objective
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.objectives.utilisation import Utilisation

ObjectiveName = Literal["throughput", "utilisation"]
DEFAULT_TARGET = 0.9

# Each takes the target, whether or not it has one.
_MADE: dict[ObjectiveName, Callable[[float], Objective]] = {
    "throughput": lambda _: Throughput(),
    "utilisation": Utilisation,
}
assert set(_MADE) == set(get_args(ObjectiveName))


def objective(name: ObjectiveName, target: float) -> Objective:
    """The objective of this name, with this target if it has one."""
    return _MADE[name](target)
