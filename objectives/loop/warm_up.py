"""Tells when AUTOTUNE has settled: its choices, if they can be read, and its rate."""

from __future__ import annotations

from collections.abc import Sequence

from prefetch_tuning.objectives.measurement import Window

# AUTOTUNE's rate has settled when the last quarter of the time is within this share of the quarter
# before. Noise alone may exceed it. The warm-up then continues, which is to AUTOTUNE's advantage.
RATE_SHARE = 0.05
# The rate of fewer batches says nothing: AUTOTUNE's buffers may hold as many.
LEAST_BATCHES = 32
# What a feed returns if AUTOTUNE makes choices but doesn't show them.
UNREADABLE = "unreadable"


def settled(history: Sequence[tuple[float, object]], now: float) -> bool:
    """Whether AUTOTUNE's choices have stayed the same for the latter half of the time so far.

    Its optimiser runs at intervals that double, so a choice is settled only once it has outlived
    one more of them. `history` contains (seconds since the start, choices), oldest first.
    """
    latest = history[-1][1]
    return all(choice == latest for seen_s, choice in history if seen_s >= now / 2)


def rate_settled(windows: Sequence[Window], now: float) -> bool:
    """Whether the rate in the last quarter of the time equals that in the quarter before.

    AUTOTUNE's optimiser runs at intervals that double. Its last change shows in the latter half of
    the time so far, and has shown there for a while if both quarters of that half are alike.

    Args:
        windows: all windows since the start, oldest first.
        now: seconds since the start.
    """
    earlier: list[Window] = []
    later: list[Window] = []
    end = 0.0
    for window in windows:
        middle = end + window.seconds / 2
        end += window.seconds
        if middle >= now / 2:
            (later if middle >= 3 * now / 4 else earlier).append(window)
    if len(earlier) < 2 or len(later) < 2:
        return False
    before, after = (
        sum(w.examples for w in part) / sum(w.seconds for w in part) for part in (earlier, later)
    )
    return abs(after - before) <= RATE_SHARE * before
