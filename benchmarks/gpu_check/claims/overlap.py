"""Whether `device_prefetch` copies batches to the device while the step computes: by a trace."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, line
from benchmarks.gpu_check.ground import Ground

Span = tuple[float, float]


@check("overlap")
def overlap(ground: Ground) -> list[Line]:
    """The share of the copies' time in which kernels ran, with and without look-ahead there.

    It is a finding about TensorFlow, not a promise of ours: whether to use the setting is decided
    by its rate, like that of every other setting.
    """
    found = {
        ahead: ground.program("benchmarks.gpu_check.programs.trace_steps", str(ahead))
        for ahead in (0, 2)
    }
    words = "; ".join(
        f"device_prefetch {ahead}: {1e3 * trace['copy_s']:.1f} ms of copies per step, "
        f"{trace['overlapped']:.0%} of it beside kernels, "
        f"a step every {1e3 * trace['step_s']:.1f} ms"
        for ahead, trace in found.items()
    )
    good = found[2]["overlapped"] > found[0]["overlapped"]
    return [
        line(
            "device_prefetch overlaps the copy",
            "batches of 64 MiB before a heavy step",
            "more of the copies beside kernels with it than without",
            words,
            "holds" if good else "undecided",
        )
    ]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time without overlaps, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def length(spans: Sequence[Span]) -> float:
    """Seconds, or whatever the unit is, of spans that don't overlap."""
    return sum(end - begin for begin, end in spans)


def common(first: Iterable[Span], second: Iterable[Span]) -> float:
    """How long both have something going on."""
    left, right = merged(first), merged(second)
    total, i, j = 0.0, 0, 0
    while i < len(left) and j < len(right):
        begin = max(left[i][0], right[j][0])
        end = min(left[i][1], right[j][1])
        total += max(end - begin, 0.0)
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return total
