"""What the terminal shows of a study: its results, its candidates, and a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from prefetch_tuning.experiments.report.console_table import console_table
from prefetch_tuning.experiments.report.tables import confirmation_table
from prefetch_tuning.experiments.report.text import counts, gain_words, of_the_limit, verdict
from prefetch_tuning.experiments.search.diagnosis import SHOWN, Diagnosis, stages
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.objectives.measurement import Interval

BAR_WIDTH = 30
HEADINGS = (
    "pipeline",
    "batch",
    "prefetch",
    "map",
    "examples/s",
    "AUTOTUNE",
    "ratio",
    "limit",
    "MiB",
)


def print_results(console: Console, records: Sequence[StudyRecord]) -> None:
    """Prints one row a pipeline, then the verdicts in words."""
    table = console_table("Recommended for each pipeline, in examples/s with their 95 % interval")
    table.add_column(HEADINGS[0])
    for heading in HEADINGS[1:]:
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(*row(record.result))
    console.print(table)
    for record in records:
        console.print(verdict(record), highlight=False, markup=False)
        for line in _details(record):
            console.print(Padding(escape(line), (0, 0, 0, 2)), highlight=False)


def print_candidates(console: Console, record: StudyRecord) -> None:
    """Prints every candidate of a study's confirmation, as its report does."""
    found = confirmation_table(record)
    if not found.rows:
        return
    table = console_table("Confirmation")
    for heading, side in zip(found.headings, found.align, strict=True):
        table.add_column(heading, justify="right" if side == "r" else "left")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)


def print_diagnosis(console: Console, pipeline: str, diagnosis: Diagnosis) -> None:
    """Prints a bar a stage, and one sentence on what to do."""
    costs = stages(diagnosis.costs)
    longest = max(cost.wall_s for cost in costs.values())
    table = console_table(f"{pipeline}: limited by {diagnosis.in_words}")
    table.add_column("stage")
    table.add_column("wall µs", justify="right")
    table.add_column("CPU µs", justify="right")
    table.add_column("per example")
    for name, cost in costs.items():
        bar = Bar(longest, 0, cost.wall_s, width=BAR_WIDTH)
        table.add_row(
            SHOWN.get(name, name), f"{1e6 * cost.wall_s:,.1f}", f"{1e6 * cost.cpu_s:,.1f}", bar
        )
    console.print(table)
    console.print(diagnosis.advice, highlight=False, soft_wrap=False)


def row(result: StudyResult) -> list[str]:
    """The cells under `HEADINGS`."""
    chosen = result.recommended or result.best
    if chosen is None:
        return [result.pipeline, "-", "-", "-", "no result", "-", "-", "-", "-"]
    autotune = result.baselines.get(AUTOTUNE)
    speedup = result.speedup
    return [
        result.pipeline,
        str(chosen.config.batch_size),
        str(chosen.config.prefetch_buffer),
        str(chosen.config.map_parallelism),
        _rate(chosen.examples_per_s, chosen.ci),
        _rate(autotune.examples_per_s, autotune.ci) if autotune else "-",
        f"{speedup.ratio:.2f}" if speedup else "-",
        f"{result.fraction.share:.0%}" if result.fraction else "-",
        f"{chosen.host_peak_mib:,.0f}",
    ]


def _rate(examples_per_s: float, ci: Interval) -> str:
    half_width = (ci.high - ci.low) / 2
    around = f" ±{half_width:,.0f}" if math.isfinite(half_width) else ""
    return f"{examples_per_s:,.0f}{around}"


def _details(record: StudyRecord) -> list[str]:
    """How near the limit it came, what was no real step, and what was spent on finding out."""
    result = record.result
    share = result.measured_s / result.wall_s if result.wall_s else 0.0
    spent = (
        f"{counts(result)}; on {result.device}, measuring {share:.0%} of {result.wall_s:.0f} s; "
        f"study {result.study}"
    )
    chosen = result.recommended or result.best
    extras = chosen.config.extras if chosen else []
    lines = [f"with {', '.join(extras)}"] if extras else []
    if result.gain:
        lines.append(f"gained by {gain_words(result.gain)}")
    if result.limit and result.fraction:
        lines.append(f"at {of_the_limit(result.limit, result.fraction)}")
    if record.info.stand_in is not None:
        lines.append(f"with {record.info.stand_in}: your model's step will change this")
    return [*lines, spent]
