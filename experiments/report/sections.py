"""Builds the sections of a report: heading, how to read it, figures and table."""

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
from prefetch_tuning.experiments.report.text import (
    counts,
    memory_price,
    plural,
    shuffle_words,
)
from prefetch_tuning.experiments.storage.results import StudyRecord

BY_TARGET = (
    " Busy is the share of time in which the training step runs. Cores is how many CPU cores the "
    "input pipeline would keep busy if the step never had to wait for data. A real step's own CPU "
    "time counts too; an emulated one has none."
)


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        id: id of the HTML element; it stays the same, so links to it keep working.
        caption: how to read the figure; only in HTML.
        facts: text beside the figure.
        empty: the sentence to show if there is nothing else.
        table: the numbers; if `folded`, HTML shows them only on request.
        in_markdown: False if the table is too long for Markdown.
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
        """Whether it has no figure, and no table beside one that repeats a figure."""
        rows = self.table.rows if self.table and not self.folded else ()
        return not self.figures and not rows


def sections(record: StudyRecord) -> list[Section]:
    """All sections, in the order in which a reader asks."""
    return [*_results(record), *_search(record)]


def _results(record: StudyRecord) -> Iterator[Section]:
    yield Section(
        "confirmation",
        "Confirmation",
        "Each point is the median of the rounds with its 95% interval. Further right is faster. "
        "The vertical ticks are the limit of this pipeline on this machine, the same for all.",
        "There was no confirmation, so no candidate was compared with AUTOTUNE.",
        figures_confirmation.confirmation(record),
        tables.confirmation_table(record),
        folded=False,
        facts=_rounds(record),
    )
    yield Section(
        "memory",
        "Throughput against memory",
        "Higher is faster, further left uses less memory. No configuration is above and to the "
        "left of the dotted front. A pale point is a single trial, which may be there by luck.",
        "No configuration was measured completely.",
        figures_result.throughput_and_memory(record),
        tables.pareto_table(record),
        facts=memory_price(record.result),
    )
    yield Section(
        "stages",
        "Cost of each stage",
        "Each stage was measured alone, one example at a time. CPU time is the sum of all threads. "
        "A stage whose CPU time is far below its wall time waits. The bottleneck is in bold.",
        "The costs of the stages were not measured.",
        figures_result.stage_costs(record),
        tables.stages_table(record),
        facts=_scaling(record),
    )
    yield Section(
        "batch-sizes",
        "Best configuration for each batch size",
        "A larger batch changes the training, not only its speed, so compare within one batch "
        "size. Pale bars are single unconfirmed trials. The recommended one is green.",
        "No tuned configuration was measured completely.",
        figures_result.batch_sizes(record),
        tables.batch_sizes_table(record),
        folded=False,
    )


def _search(record: StudyRecord) -> Iterator[Section]:
    yield Section(
        "axes",
        "Throughput over each searched axis",
        "One point per trial. Trials also differ in the other axes, so the points scatter. Filled: "
        "complete. Open: pruned. Triangle: over the memory limit. Green star: recommended.",
        "Too few trials completed, or no axis varied.",
        figures_search.axes(record),
        tables.axes_table(record),
        folded=False,
        facts=f"Searched: {'; '.join(record.searched)}." if record.searched else "",
    )
    yield Section(
        "trials",
        "Trials in order",
        "One point per trial; trials without a rate are on the axis. Short dashes are predicted "
        "rates. Rings mark the trials that the prediction chose. The dashed line is the limit.",
        "No trial has a measurement.",
        figures_search.trials(record),
        tables.trials_table(record),
        facts=f"{counts(record.result)}.",
        in_markdown=False,
    )
    yield Section(
        "importance",
        "What mattered",
        "The share of the variation between trials that each axis explains.",
        "Too few trials completed to tell which axis mattered.",
        figures_search.importance(record),
        tables.importance_table(record),
    )
    yield Section(
        "failures",
        "Failed and stopped trials",
        "Trials without a full measurement or over a memory limit, and the reason.",
        "Every trial completed within the limits.",
        table=tables.failures_table(record),
        folded=False,
    )


def _rounds(record: StudyRecord) -> str:
    if not record.result.confirmation:
        return ""
    rounds = max(c.rounds for c in record.result.confirmation)
    return (
        f"{plural(rounds, 'round')}. Each round measures every candidate once, in random order and "
        "in fresh processes, and compares it with AUTOTUNE. Clearly beaten candidates leave early. "
        "CV is the variation from round to round, MiB the peak host memory, and first batch the "
        "time until the first batch is ready."
    ) + (BY_TARGET if record.result.target is not None else "")


def _scaling(record: StudyRecord) -> str:
    diagnosis = record.result.diagnosis
    if diagnosis is None:
        return ""
    costs = diagnosis.costs
    words = f"The step was measured at batch size {costs.batch_size:,}."
    if costs.map is not None:
        faster = f"{costs.map_speedup:.1f}x as fast"
        words += f" With {costs.map_calls} calls in flight, the map is {faster}."
    return " ".join([words, *shuffle_words(costs)])
