"""What a monitor measured, epoch by epoch, and what it says about each."""

from __future__ import annotations

from collections.abc import Callable

from prefetch_tuning.objectives.monitor.meter import Meter, Tally
from prefetch_tuning.objectives.monitor.stalls import (
    WHAT_NEXT,
    at_the_start,
    epoch_line,
    is_worth_tuning,
)


class Epochs:
    """The epochs of a training.

    Attributes:
        epochs: what each epoch measured, in order.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` takes each line to show."""
        self._say = say
        self.epochs: list[Tally] = []

    @property
    def wait_fraction(self) -> float:
        """Share of the time in which the step waited for data, over all epochs."""
        return self._whole.wait_fraction

    @property
    def examples_per_s(self) -> float:
        """Rate over all epochs."""
        return self._whole.examples_per_s

    def ended(self, meter: Meter) -> None:
        """Keeps an epoch and says what it measured."""
        was_said = any(is_worth_tuning(epoch) for epoch in self.epochs)
        self.epochs.append(meter.epoch)
        number = len(self.epochs)
        self._say(epoch_line(number, meter.epoch))
        late = at_the_start(number, meter)
        if late is not None:
            self._say(late)
        if is_worth_tuning(meter.epoch) and not was_said:
            self._say(WHAT_NEXT)

    @property
    def _whole(self) -> Tally:
        whole = Tally()
        for epoch in self.epochs:
            whole.add(epoch)
        return whole
