"""The text of docs/results-gpu.md, made from outcomes and utilisations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.result_parts.document import (
    NONE,
    fresh_row,
    gain_row,
    limit_words,
    memory_words,
    rate_cell,
    ratio_cell,
    row,
    won_by,
)
from benchmarks.result_parts.run import Outcome, found
from prefetch_tuning.experiments.report.text import between, rate, settings, share
from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, Round
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to
from prefetch_tuning.objectives.measurement import LimitTerms

# The accelerator's utilisation with each candidate of a confirmation.
Utilisations = Mapping[str, Ratio | None]
Row = tuple[Outcome, Utilisations]


def utilisations(outcome: Outcome, store: Store) -> Utilisations:
    """How busy the accelerator was with each candidate, from the rounds that the study kept."""
    record = StudyAttributes(load_study(outcome.record.result.study, store))
    return {name: utilisation(name, record.rounds, record.limits) for name in record.candidates}


def utilisation(
    candidate: str, rounds: Sequence[Round], limits: Sequence[LimitTerms | None]
) -> Ratio | None:
    """A candidate's rate divided by that of the step on ready batches, paired within rounds.

    1 minus the result is the share of time in which the accelerator waits for data. The result is
    None if no round measured both.
    """
    pairs = [
        (measured[candidate].examples_per_s, terms.step_examples_per_s)
        for measured, terms in zip(rounds, limits, strict=True)
        if candidate in measured and terms is not None
    ]
    if not pairs:
        return None
    rates, limits = zip(*pairs, strict=True)
    return ratio_to(rates, limits)


def document(name: str, facts: Mapping[str, str], rows: Sequence[Row]) -> Iterator[str]:
    """The lines of docs/results-gpu.md."""
    first = rows[0][0].record
    versions = ", ".join(f"{package} {number}" for package, number in first.versions.items())
    yield "# Results of tuning on a GPU\n"
    yield f"Made by `make results-gpu` (studies `{name}-*`) on this machine:\n"
    yield from (f"- {what}: {words}" for what, words in facts.items())
    if versions:
        yield f"- versions: {versions}"
    yield (
        "\nRates are in examples/s and are medians of interleaved rounds in fresh processes. "
        "Ratios are paired within rounds at equal batch size, with their 95% bootstrap intervals. "
        "*Utilisation* is the rate divided by that of the training step on ready batches, measured "
        "in the same rounds. The rest up to 100% is the share of time in which the GPU waits for "
        "data.\n"
    )
    yield "| pipeline | batch | AUTOTUNE | recommended | over AUTOTUNE | limit |"
    yield "|---|---:|---:|---:|---:|---:|"
    yield from (rates_row(outcome) for outcome, _ in rows)
    yield "\n| pipeline | utilisation with AUTOTUNE | with the recommended settings |"
    yield "|---|---:|---:|"
    for outcome, busy in rows:
        chosen = outcome.chosen
        after = busy.get(chosen.candidate) if chosen else None
        yield row(outcome.name, share_cell(busy.get(AUTOTUNE)), share_cell(after))
    yield "\n## Every candidate\n"
    for outcome, busy in rows:
        yield from candidates_table(outcome, busy)
    yield "\n## Rounds after the choice\n"
    yield "These rounds had no part in choosing the recommendation.\n"
    yield "| pipeline | over AUTOTUNE, fresh rounds | rounds | in the rounds that chose |"
    yield "|---|---:|---:|---:|"
    yield from (fresh_row(outcome) for outcome, _ in rows)
    yield "\n## What the gain consists of\n"
    yield "| pipeline | structure | settings | plain chain |"
    yield "|---|---:|---:|---:|"
    yield from (gain_row(outcome) for outcome, _ in rows)
    yield "\n## Recommended settings\n"
    yield "| pipeline | limited by | recommended settings |"
    yield "|---|---|---|"
    for outcome, _ in rows:
        diagnosis = outcome.record.result.diagnosis
        yield row(outcome.name, diagnosis.bottleneck if diagnosis else NONE, won_by(outcome))
    yield "\n## The limit\n"
    yield from (f"- **{outcome.name}**: {limit_words(outcome)}" for outcome, _ in rows)
    yield "\n## What more memory bought\n"
    yield from (f"- **{outcome.name}**: {memory_words(outcome)}" for outcome, _ in rows)


def candidates_table(outcome: Outcome, busy: Utilisations) -> Iterator[str]:
    """The table of a confirmation's candidates, even if there were too few rounds."""
    most = max((each.rounds for each in outcome.record.result.confirmation), default=0)
    few = f"; with fewer than {LEAST_ROUNDS} nothing is recommended" if most < LEAST_ROUNDS else ""
    yield f"`{outcome.name}`, {most} rounds{few}:\n"
    yield "| candidate | rounds | examples/s | over AUTOTUNE | utilisation | settings |"
    yield "|---|---:|---:|---:|---:|---|"
    for each in outcome.record.result.confirmation:
        yield row(
            each.candidate,
            str(each.rounds),
            rate_cell(each),
            ratio_cell(each),
            share_cell(busy.get(each.candidate)),
            settings(each.config, outcome.record.info),
        )
    yield ""


def rates_row(outcome: Outcome) -> str:
    """A row with the rates of AUTOTUNE and of the recommendation, and the limit."""
    record, chosen, limit = outcome.record, outcome.chosen, outcome.record.result.limit
    return row(
        outcome.name,
        str(chosen.config.batch_size) if chosen else NONE,
        rate_cell(found(record, AUTOTUNE)),
        rate_cell(chosen),
        ratio_cell(chosen),
        f"{rate(limit.examples_per_s)} ({between(limit.ci)})" if limit else NONE,
    )


def share_cell(found: Ratio | None) -> str:
    """A share with its interval."""
    if found is None:
        return NONE
    return f"{share(found.ratio)} ({share(found.ci.low)} to {share(found.ci.high)})"
