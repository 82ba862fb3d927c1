"""What a report consists of, section by section: heading, how to read it, figures and rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from plotly.graph_objects import Figure

from prefetch_tuning.experiments.report import (
    figures_confirmation,
    figures_result,
    figures_search,
    tables,
)
from prefetch_tuning.experiments.report.tables import Table
from prefetch_tuning.experiments.report.text import counts, memory_price
from prefetch_tuning.experiments.storage.results import StudyRecord


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        id: of the HTML element; stable, so that a link to it holds.
        caption: how to read the figure; for HTML only.
        facts: what is to be said in words beside it.
        empty: the sentence that stands there if there is nothing to show.
        table: its numbers; `folded` away under the figure in HTML.
        in_markdown: False where the table would be too long for a note.
    """

    id: str
    heading: str
    caption: str
    empty: str
    figures: list[Figure] = field(default_factory=list)
    table: Table | None = None
    folded: bool = True
    facts: str = ""
    in_markdown: bool = True

    @property
    def is_empty(self) -> bool:
        """Nothing to draw, and no row that is not a mere copy of what is drawn."""
        rows = self.table.rows if self.table and not self.folded else ()
        return not self.figures and not rows


def sections(record: StudyRecord) -> list[Section]:
    """All of them, in the order of a reader's questions."""
    return [*_results(record), *_search(record)]


def _results(record: StudyRecord) -> Iterator[Section]:
    yield Section(
        "confirmation",
        "Confirmation",
        "Median of the rounds with its 95 % interval; further right is faster. The upright ticks "
        "are the limit of this pipeline on this machine, the same for every candidate.",
        "There was no confirmation: no candidate was held against AUTOTUNE.",
        figures_confirmation.confirmation(record),
        tables.confirmation_table(record),
        folded=False,
        facts=_rounds(record),
    )
    yield Section(
        "memory",
        "Throughput against memory",
        "Up is faster, left is leaner. Nothing lies above and to the left of the dotted front; a "
        "pale point is a single trial, and may be there by luck.",
        "No configuration was measured to its end.",
        figures_result.throughput_and_memory(record),
        tables.pareto_table(record),
        facts=memory_price(record.result),
    )
    yield Section(
        "stages",
        "Cost of each stage",
        "Each stage by itself, one example at a time. CPU time is that of all threads; far below "
        "wall time, the stage waits. The limiting stage is in bold.",
        "The costs of the stages were not measured.",
        figures_result.stage_costs(record),
        tables.stages_table(record),
        facts=_scaling(record),
    )
    yield Section(
        "batch-sizes",
        "Best configuration for each batch size",
        "A larger batch changes the training, not only its speed: compare within one batch size. "
        "Pale bars are single trials, unconfirmed; green is recommended.",
        "No tuned configuration was measured to its end.",
        figures_result.batch_sizes(record),
        tables.batch_sizes_table(record),
        folded=False,
    )


def _search(record: StudyRecord) -> Iterator[Section]:
    yield Section(
        "axes",
        "Throughput over each searched axis",
        "One point a trial; the settings of the other axes spread them. Filled: complete. Open: "
        "pruned. Triangle: over the memory limit. Green star: recommended.",
        "Too few trials completed, or no axis varied.",
        figures_search.axes(record),
        tables.axes_table(record),
        folded=False,
        facts=f"Searched: {'; '.join(record.searched)}." if record.searched else "",
    )
    yield Section(
        "trials",
        "Trials in order",
        "One point a trial; those that gave no rate stand on the axis. Short dashes are the "
        "predicted rates, rings the trials chosen by them, and the line is the limit.",
        "No trial gave a measurement.",
        figures_search.trials(record),
        tables.trials_table(record),
        facts=f"{counts(record.result)}.",
        in_markdown=False,
    )
    yield Section(
        "importance",
        "What mattered",
        "How much of the difference between trials each axis explains.",
        "Too few trials completed to tell which axis mattered.",
        figures_search.importance(record),
        tables.importance_table(record),
    )
    yield Section(
        "failures",
        "What failed or was stopped",
        "Trials that gave no full measurement, and why.",
        "Every trial completed within the limits.",
        table=tables.failures_table(record),
        folded=False,
    )


def _rounds(record: StudyRecord) -> str:
    if not record.result.confirmation:
        return ""
    rounds = max(c.rounds for c in record.result.confirmation)
    return (
        f"{rounds} rounds, each with every candidate once, in random order and in fresh processes; "
        "candidates are compared with AUTOTUNE within each round, and leave once they are beaten. "
        "CV is the noise from round to round, MiB the peak host memory."
    )


def _scaling(record: StudyRecord) -> str:
    diagnosis = record.result.diagnosis
    if diagnosis is None:
        return ""
    costs = diagnosis.costs
    words = f"The step was measured at batch size {costs.batch_size:,}."
    if costs.map is not None:
        words += (
            f" With {costs.map_calls} calls in flight the map runs {costs.map_speedup:.1f} times "
            "as fast."
        )
    return words
