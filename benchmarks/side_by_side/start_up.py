"""How long commands take to start, and a default study's share of measuring."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.journal import Journal
from benchmarks.side_by_side.stand import Stand
from prefetch_tuning.pipelines import catalog

COMMAND = str(Path(sys.executable).parent / "prefetch-tune")
TIMES, QUICK_TIMES = 7, 1
# The most seconds wanted, by what the user types.
WANTED = {"--help": 0.4, "pipelines": 1.5, "studies": 1.5}
# What a study says when it begins to measure.
MEASURES, MOST_S = "measuring", 12.0
FIRST, STARTS, STUDY = "first measurement", "starts", "default study"
PIPELINE, LEAST_SHARE = "image", 0.8


def measure(stand: Stand) -> None:
    """Measures what the journal doesn't have yet."""
    count = QUICK_TIMES if stand.quick else TIMES
    stand.study(
        f"{stand.journal.path.stem}-time", catalog.resolve(PIPELINE), 128, trials=3, rounds=0
    )
    for word in WANTED:
        if stand.journal.find(STARTS, word) is None:
            seconds = [_run(stand.folder, word) for _ in range(count)]
            stand.journal.add(STARTS, word, seconds=seconds)
    if stand.journal.find(STARTS, FIRST) is None:
        stand.journal.add(STARTS, FIRST, seconds=[_until_measuring() for _ in range(count)])
    if stand.journal.find(STUDY, PIPELINE) is None and not stand.quick:
        # In a resumed run it may be the first study, which would wait for TensorFlow's import.
        stand.runner.inspect(catalog.resolve(PIPELINE), 0, "auto")
        # Its own, so that it can be measured in a run whose other studies' databases are gone.
        name = f"{stand.journal.path.stem}-default-{PIPELINE}"
        result = stand.study(name, catalog.resolve(PIPELINE), 128).result
        stand.journal.add(STUDY, PIPELINE, measured_s=result.measured_s, wall_s=result.wall_s)


def _run(folder: Path, word: str) -> float:
    """Seconds of a command that lists something, where this run has its studies."""
    begin = time.perf_counter()
    subprocess.run([COMMAND, word], capture_output=True, check=True, cwd=folder)
    return time.perf_counter() - begin


def _until_measuring() -> float:
    """Seconds from the command to its first measurement."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        started = subprocess.Popen(
            [COMMAND, "tune", PIPELINE, "--trials", "1", "--no-confirm"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert started.stderr is not None
        lines = iter(started.stderr)
        said = next((line for line in lines if MEASURES in line), None)
        seconds = time.perf_counter() - begin
        started.terminate()
        started.communicate()
    if said is None:
        raise RuntimeError(f"prefetch-tune tune {PIPELINE} measured nothing")
    return seconds


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document; nothing without a measurement."""
    if not journal.of(STARTS):
        return
    yield "| command | seconds (median) | wanted |"
    yield "|---|---:|---:|"
    for word, most in WANTED.items():
        line = journal.find(STARTS, word)
        if line is not None:
            seconds = statistics.median(line["seconds"])
            yield f"| `prefetch-tune {word}` | {seconds:.2f} | under {most:g} |"
    line = journal.find(STARTS, FIRST)
    if line is not None:
        seconds = statistics.median(line["seconds"])
        yield f"| `prefetch-tune tune`, until it measures | {seconds:.1f} | under {MOST_S:g} |"
    line = journal.find(STUDY, PIPELINE)
    if line is not None:
        share = line["measured_s"] / line["wall_s"]
        yield ""
        yield (
            f"A default study of `{PIPELINE}` took {line['wall_s']:.0f} s after TensorFlow was "
            f"imported, {share:.0%} of it measuring (wanted: {LEAST_SHARE:.0%})."
        )
