"""The text of docs/results.md, made from the outcomes of its studies."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

from benchmarks.result_parts.aims import LEAST_SHARE, aims
from benchmarks.result_parts.before import smaller
from benchmarks.result_parts.run import Outcome, found
from prefetch_tuning.experiments.report.text import (
    batch_time,
    between,
    memory_price,
    of_the_limit,
    rate,
    share,
    times,
)
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, BASIC, STRUCTURE_AUTOTUNE

NONE = "-"


def document(name: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The lines of docs/results.md."""
    yield from heading(name, outcomes[0].record)
    yield "## Rates\n"
    yield (
        "| pipeline | batch | AUTOTUNE | best, plain chain | structure, AUTOTUNE on it "
        "| recommended | over AUTOTUNE | of its limit |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    yield from map(rates_row, outcomes)
    yield "\n## What the gain consists of\n"
    yield (
        "*Structure* compares AUTOTUNE on the structure that was found with AUTOTUNE on the plain "
        "chain. *Settings* compares the best fixed settings on that structure with AUTOTUNE on it. "
        "*Plain chain* compares the best settings without any structure with AUTOTUNE. A dash: no "
        "structure was found, or AUTOTUNE on it left early because fixed settings clearly beat it."
        "\n"
    )
    yield "| pipeline | structure | settings | plain chain |"
    yield "|---|---:|---:|---:|"
    yield from map(gain_row, outcomes)
    yield "\n## Rounds after the choice\n"
    yield (
        "The rounds above also chose the recommendation, so it can't be slower than AUTOTUNE in "
        "them. The rounds below came after the choice. They measured the recommended configuration "
        "and AUTOTUNE at the same batch size, interleaved in random order, each in a fresh "
        "process.\n"
    )
    yield "| pipeline | over AUTOTUNE, fresh rounds | rounds | in the rounds that chose |"
    yield "|---|---:|---:|---:|"
    yield from map(fresh_row, outcomes)
    yield "\n## Recommended settings\n"
    yield "| pipeline | limited by | recommended settings | peak MiB, AUTOTUNE | recommended |"
    yield "|---|---|---|---:|---:|"
    yield from map(settings_row, outcomes)
    yield "\n## The limit\n"
    for outcome in outcomes:
        yield f"- **{outcome.name}**: {limit_words(outcome)}"
    yield "\n## What more memory bought\n"
    for outcome in outcomes:
        yield f"- **{outcome.name}**: {memory_words(outcome)}"
    yield "\n## The project's aims\n"
    yield from aims(outcomes)
    yield from smaller(outcomes)
    yield "\n## Axes that were not searched\n"
    for outcome in outcomes:
        left_out = outcome.record.left_out.items()
        reasons = "; ".join(f"`{axis}`: {why}" for axis, why in left_out) or "none"
        yield f"- **{outcome.name}**: {reasons}"


def short_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """README's table: the bottleneck of each pipeline and the ratio in fresh rounds."""
    yield "| pipeline | limited by | over AUTOTUNE |"
    yield "|---|---|---:|"
    for outcome in outcomes:
        yield row(outcome.name, bottleneck(outcome), fresh_ratio(outcome))


def bottleneck(outcome: Outcome) -> str:
    """The class of the bottleneck, if there is a diagnosis."""
    diagnosis = outcome.record.result.diagnosis
    return diagnosis.bottleneck if diagnosis else "not diagnosed"


def heading(name: str, first: StudyRecord) -> Iterator[str]:
    """The title, the machine and versions, and what the numbers mean."""
    versions = ", ".join(f"{package} {number}" for package, number in first.versions.items())
    yield "# Results of tuning the built-in pipelines\n"
    yield (
        f"Made by `make results` (studies `{name}-*`): {first.host}, {first.result.device}, "
        f"{platform.system()} {platform.release()}; {versions}. Rates are in examples/s and are "
        "medians of interleaved rounds in fresh processes. Ratios are paired within rounds at "
        "equal batch size, with their 95% bootstrap intervals. Each pipeline has one limit, "
        "measured in the same rounds.\n"
    )
    yield (
        "![Rates of AUTOTUNE, of the best plain chain, of AUTOTUNE on the structure that was found "
        "and of the recommended configuration, with each pipeline's limit](results.svg)\n"
    )


def rates_row(outcome: Outcome) -> str:
    """A row with the rates of AUTOTUNE, of the steps from there, and of the recommendation."""
    record, chosen = outcome.record, outcome.chosen
    fraction = record.result.fraction
    return row(
        outcome.name,
        str(chosen.config.batch_size) if chosen else NONE,
        *(rate_cell(found(record, name)) for name in (AUTOTUNE, BASIC, STRUCTURE_AUTOTUNE)),
        rate_cell(chosen),
        ratio_cell(chosen),
        share(fraction.share) if fraction else NONE,
    )


def gain_row(outcome: Outcome) -> str:
    """A row with the gains from structure and settings, if there are any, and the plain chain's."""
    gain = outcome.record.result.gain
    parts = (times(gain.structure), times(gain.settings)) if gain else (NONE, NONE)
    return row(outcome.name, *parts, ratio_cell(found(outcome.record, BASIC)))


def fresh_row(outcome: Outcome) -> str:
    """A row with the recommendation's ratio to AUTOTUNE in the rounds after the choice."""
    if outcome.keeps_autotune:
        return row(outcome.name, fresh_ratio(outcome), NONE, NONE)
    rounds = str(outcome.whole_rounds)
    return row(outcome.name, fresh_ratio(outcome), rounds, ratio_cell(outcome.chosen))


def fresh_ratio(outcome: Outcome) -> str:
    """The recommendation's ratio to AUTOTUNE in the rounds after the choice."""
    if outcome.keeps_autotune:
        return "1x: AUTOTUNE is recommended"
    return times(outcome.ratio) if outcome.ratio else "not measured"


def settings_row(outcome: Outcome) -> str:
    """A row with the bottleneck, the recommended settings and the peak memory."""
    autotune = found(outcome.record, AUTOTUNE)
    return row(
        outcome.name,
        bottleneck(outcome),
        won_by(outcome),
        f"{autotune.host_peak_mib:,.0f}" if autotune else NONE,
        f"{outcome.chosen.host_peak_mib:,.0f}" if outcome.chosen else NONE,
    )


def won_by(outcome: Outcome) -> str:
    """The recommended settings; for AUTOTUNE also what the best other candidate reached."""
    chosen = outcome.chosen
    if chosen is None:
        return "nothing is recommended"
    if chosen.candidate == STRUCTURE_AUTOTUNE:
        return f"AUTOTUNE on the structure: {', '.join(chosen.config.extras)}"
    others = [c for c in outcome.record.result.confirmation if c.candidate.startswith("tuned")]
    if chosen.candidate != AUTOTUNE:
        return str(chosen.config)
    if not others:
        return "AUTOTUNE"
    return f"AUTOTUNE; {others[0].config} reached {ratio_cell(others[0])} of its rate"


def limit_words(outcome: Outcome) -> str:
    """How near the limit the recommendation came, and each term of the limit."""
    chosen, result = outcome.chosen, outcome.record.result
    limit, fraction = result.limit, result.fraction
    if limit is None:
        return "no limit was measured."
    reached = f"nothing is recommended; the limit is {rate(limit.examples_per_s)} examples/s"
    if fraction is not None:
        reached = of_the_limit(limit, fraction)
    made = "unknown (it can't run alone)"
    if limit.terms.generator is not None:
        made = rate(limit.terms.generator)
    words = (
        f"{reached}. Terms: step {rate(limit.terms.step)}, generator {made}, CPU "
        f"{rate(limit.terms.cpu)}."
    )
    if chosen is not None and fraction is not None and fraction.share < LEAST_SHARE:
        words += f" A batch takes {batch_time(limit, chosen, result.device)}."
    return words


def memory_words(outcome: Outcome) -> str:
    """What the recommendation's memory bought."""
    if outcome.keeps_autotune:
        return "AUTOTUNE is recommended."
    return memory_price(outcome.record.result) or "there is nothing to compare with."


def rate_cell(candidate: Confirmed | None) -> str:
    """A rate with its interval."""
    return f"{rate(candidate.examples_per_s)} ({between(candidate.ci)})" if candidate else NONE


def ratio_cell(candidate: Confirmed | None) -> str:
    """The ratio to AUTOTUNE with its interval; 1 for AUTOTUNE itself."""
    if candidate is None:
        return NONE
    if candidate.candidate == AUTOTUNE:
        return "1x"
    return times(candidate.ratio) if candidate.ratio else NONE


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
