"""Checks with a trace whether `device_prefetch` copies batches while the step computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.audit.judging import Line
from benchmarks.gpu_check.checks import check, line
from benchmarks.gpu_check.ground import Ground

Span = tuple[float, float]


@check("overlap")
def overlap(ground: Ground) -> list[Line]:
    """Compares the share of copy time in which kernels ran, with and without `device_prefetch`.

    This is a finding about TensorFlow, not a claim of this project: a study judges the setting by
    its rate, as it does every other setting. So without an overlap the line is *undecided*.
    """
    found = {
        ahead: ground.program("benchmarks.gpu_check.programs.trace_steps", str(ahead))
        for ahead in (0, 2)
    }
    words = "; ".join(
        f"device_prefetch {ahead}: {1e3 * trace['copy_s']:.1f} ms of copies per step, "
        f"{trace['overlapped']:.0%} of that while kernels ran, "
        f"{1e3 * trace['step_s']:.1f} ms per step"
        for ahead, trace in found.items()
    )
    good = found[2]["overlapped"] > found[0]["overlapped"]
    return [
        line(
            "device_prefetch overlaps the copy",
            "batches of 64 MiB before a heavy step",
            "a larger share of the copies runs beside kernels with it than without",
            words,
            "holds" if good else "undecided",
        )
    ]


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, with those that overlap merged into one."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def length(spans: Sequence[Span]) -> float:
    """The total length of spans that don't overlap, in the spans' unit."""
    return sum(end - begin for begin, end in spans)


def common(first: Iterable[Span], second: Iterable[Span]) -> float:
    """The total time that is in a span of both, in the spans' unit."""
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
