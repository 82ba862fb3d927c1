"""Prints studies on the terminal: their results, their candidates, and a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.bar import Bar
from rich.console import Console

from prefetch_tuning.experiments.report import target_words
from prefetch_tuning.experiments.report.console_table import (
    console_table,
    print_fields,
    print_rows,
)
from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.experiments.report.tables import confirmation_table
from prefetch_tuning.experiments.report.text import (
    between,
    counts,
    gain_words,
    memory,
    mib,
    of_the_limit,
    rate,
    settings,
    share,
    shuffle_words,
    side_effects,
    times,
)
from prefetch_tuning.experiments.report.verdict_words import verdict
from prefetch_tuning.experiments.search.diagnosis import SHOWN, Diagnosis, stages
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE

BAR_WIDTH = 30
HEADINGS = ("pipeline", "over AUTOTUNE", "examples/s", "AUTOTUNE", "of limit", "MiB")
# Of studies with a target.
TARGET_HEADINGS = ("pipeline", "busy", "AUTOTUNE", "cores", "examples/s", "MiB")


def print_results(
    console: Console, records: Sequence[StudyRecord], code: Mapping[str, str] | None = None
) -> None:
    """Prints a line per pipeline if there are several, and then what each study found.

    `code` says where the code to paste is, by study. With a single study it is also printed.
    """
    if len(records) > 1:
        headings, rows = results_table([record.result for record in records])
        print_rows(console, "Results", headings, rows, "lrrrrr")
    for record in records:
        console.print(verdict(record), style="bold", highlight=False, markup=False)
        print_fields(console, _fields(record))
        place = (code or {}).get(record.result.study)
        if place is not None:
            # Never wrapped, even if it is longer than a line, so it can be copied.
            console.print(f"  code  {place}", markup=False, highlight=False, soft_wrap=True)
        console.print()
    if code is not None and len(records) == 1 and (text := snippet(records[0])):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_candidates(console: Console, record: StudyRecord) -> None:
    """Prints the candidates of a study's confirmation, as in its report."""
    found = confirmation_table(record)
    if found.rows:
        print_rows(console, "Confirmation", found.headings, found.rows, found.align)


def print_diagnosis(console: Console, pipeline: str, diagnosis: Diagnosis) -> None:
    """Prints the cost of each stage as a bar, and what to do about the bottleneck."""
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
    for words in shuffle_words(diagnosis.costs):
        console.print(words, highlight=False)
    if diagnosis.pauses is not None:
        console.print(f"The generator {diagnosis.pauses.in_words}.", highlight=False)


def results_table(results: Sequence[StudyResult]) -> tuple[Sequence[str], list[list[str]]]:
    """Headings and a row per study; of their targets, if any has one."""
    if any(target_words.is_judged(result) for result in results):
        return TARGET_HEADINGS, [target_row(result) for result in results]
    return HEADINGS, [row(result) for result in results]


def row(result: StudyResult) -> list[str]:
    """The cells under `HEADINGS`; "-" where there is nothing to show."""
    chosen = result.recommended or result.best
    if chosen is None:
        return [result.pipeline, "no result", "-", "-", "-", "-"]
    autotune = result.baselines.get(AUTOTUNE)
    return [
        result.pipeline,
        times(result.speedup) if result.speedup else "-" if result.recommended else "unconfirmed",
        rate(chosen.examples_per_s),
        rate(autotune.examples_per_s) if autotune else "-",
        share(result.fraction.share) if result.fraction else "-",
        mib(chosen.host_peak_mib),
    ]


def target_row(result: StudyResult) -> list[str]:
    """The cells under `TARGET_HEADINGS`; "-" where there is nothing to show."""
    found = {c.candidate: c for c in result.confirmation}
    chosen = found.get(result.recommended.candidate) if result.recommended else None
    if chosen is None:
        return [result.pipeline, "unconfirmed" if result.best else "no result", *["-"] * 4]
    autotune = found.get(AUTOTUNE)
    busy = [c.utilisation if c else None for c in (chosen, autotune)]
    return [
        result.pipeline,
        *(share(u.share) if u else "-" for u in busy),
        f"{target_words.cores_to_feed(chosen, result):.2f}",
        rate(chosen.examples_per_s),
        mib(chosen.host_peak_mib),
    ]


def _fields(record: StudyRecord) -> list[tuple[str, str]]:
    """Terms and texts: the settings first, then the reasons, then the study to look up."""
    result = record.result
    fields: list[tuple[str, str]] = []
    chosen = result.recommended or result.best
    if chosen is not None:
        fields.append(
            ("use" if result.recommended else "best", settings(chosen.config, record.info))
        )
        reached = f"{rate(chosen.examples_per_s)} examples/s ({between(chosen.ci)})"
        fields.append(
            ("rate", f"{reached}; {memory(chosen.host_peak_mib, chosen.device_peak_mib)}")
        )
    fields += [(what.lower(), words) for what, words in target_words.facts(record)]
    fields += [(what.lower(), words) for what, words in side_effects(record)]
    if result.recommended is not None:
        fields.append(("why", result.recommended.reason))
    if result.over_written is not None:
        words = f"{times(result.over_written)} the rate of the script as written"
        fields.append(("script", words))
    if result.gain is not None:
        fields.append(("gain", gain_words(result.gain)))
    if result.limit is not None and result.fraction is not None:
        fields.append(("limit", of_the_limit(result.limit, result.fraction)))
    if record.info.stand_in is not None:
        fields.append(("step", f"{record.info.stand_in}; your model's step will change the result"))
    measuring = share(result.measured_s / result.wall_s if result.wall_s else 0.0)
    fields.append(("study", result.study))
    fields.append(
        ("", f"{counts(result)}; on {result.device}; {result.wall_s:.0f} s, {measuring} measuring")
    )
    return fields
