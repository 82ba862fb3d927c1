"""What a trial costs beyond its measuring, as a study grows."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import say
from benchmarks.journal import Journal
from benchmarks.side_by_side.growth.study import SIZES, Size, grown, table
from benchmarks.side_by_side.stand import Stand

QUICK_SIZES = (10, 100)
PART = "growth"
# The time per trial at the largest size is wanted to be at most this many times that at 100.
BASE, MOST = 100, 2.0


def measure(stand: Stand) -> None:
    """Measures it unless the journal has all sizes. One that was cut off begins anew."""
    sizes = QUICK_SIZES if stand.quick else SIZES
    if all(stand.journal.find(PART, str(size)) for size in sizes):
        return
    for size in grown(sizes):
        say(f"{size.trials:,} trials: {size.trial_ms:.0f} ms per trial")
        stand.journal.add(PART, str(size.trials), size=size)


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document."""
    sizes = [Size.model_validate(line["size"]) for line in journal.of(PART)]
    if not sizes:
        return
    sizes.sort(key=lambda size: size.trials)
    yield (
        "A study whose measurements are made up, so that only the bookkeeping is left. The times "
        "of a trial are the means of ten."
    )
    yield ""
    yield from table(sizes)
    base = next((size for size in sizes if size.trials == BASE), None)
    if base is not None and sizes[-1].trials > BASE:
        largest = sizes[-1]
        yield ""
        yield (
            f"After {largest.trials:,} trials, the next one costs "
            f"{largest.trial_ms / base.trial_ms:.2f} times what it costs after {BASE} (wanted: at "
            f"most {MOST:g})."
        )
