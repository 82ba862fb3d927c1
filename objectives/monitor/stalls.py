"""Names the stalls of a training's input pipeline, and says what helps. Pure."""

from __future__ import annotations

import math

from prefetch_tuning.objectives.monitor.meter import Meter, Tally

# More waiting than this share of the time is worth doing something about.
WORTH = 0.10
# A first batch is late after this long.
LATE_S = 1.0
# The start of an epoch is worth a line if it takes this share of the epoch, and so many times what
# other steps wait.
BOUNDARY_SHARE, BOUNDARY_TIMES = 0.05, 10.0
WHAT_NEXT = (
    "input: more than 10% of the time is waiting for data. To find out why, and which settings end "
    "it: prefetch-tune diagnose FILE.py:FUNCTION, then prefetch-tune tune FILE.py:FUNCTION"
)


def epoch_line(number: int, epoch: Tally) -> str:
    """What one epoch waited and how fast it was; `number` counts from 1."""
    if not epoch.steps:
        return f"input: epoch {number} has no step to time"
    if math.isnan(epoch.wait_fraction):
        rate = f"{epoch.examples_per_s:,.0f} examples/s"
        return f"input: epoch {number}, {rate}; it has too few steps to time one on the device"
    return (
        f"input: epoch {number} waited {epoch.wait_fraction:.0%} of its time for data, "
        f"{epoch.examples_per_s:,.0f} examples/s"
    )


def is_worth_tuning(epoch: Tally) -> bool:
    """Whether the step waits so long that other settings of the pipeline may pay."""
    return epoch.wait_fraction > WORTH


def at_the_start(number: int, meter: Meter) -> str | None:
    """A line about the wait for an epoch's first batch; None if it is nothing unusual."""
    first_s = meter.first_wait_s or 0.0
    if number == 1:
        if first_s < LATE_S:
            return None
        return (
            f"input: the first batch came after {first_s:.1f} s. A shuffle buffer fills before it, "
            "or files are listed and opened"
        )
    share, usual_s = first_s / max(meter.epoch.wall_s, 1e-9), meter.usual_wait_s
    if usual_s is None or share < BOUNDARY_SHARE or first_s <= BOUNDARY_TIMES * usual_s:
        return None
    return (
        f"input: epoch {number} began with {first_s:.1f} s of waiting, {share:.0%} of its time: "
        "the iterator starts anew and its buffers are empty. In fit, dataset.repeat() and "
        "steps_per_epoch=N keep it running between epochs"
    )
