"""The text of docs/accelerators.md, made from the outcomes of its studies."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence

from benchmarks.accelerators.run import Outcome
from benchmarks.accelerators.steps import EASY, EASY_STEP, HARD, HARD_STEP, LONGEST_S
from benchmarks.result_parts.document import NONE, row
from benchmarks.result_parts.run import RECOMMENDED, found
from prefetch_tuning.experiments.report.target_words import cores_to_feed, what_it_takes
from prefetch_tuning.experiments.report.text import mib, settings, share, share_with_interval
from prefetch_tuning.experiments.report.verdict_words import verdict
from prefetch_tuning.experiments.verdict.limit import Fraction
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE

# From this factor on, its decimals say nothing.
MANY = 10
TITLES = {EASY_STEP: "Known steps that the pipelines can feed", HARD_STEP: "Hard steps"}


def document(name: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The lines of docs/accelerators.md."""
    yield from heading(name, outcomes)
    for kind, title in TITLES.items():
        rows = [outcome for outcome in outcomes if outcome.fed.kind == kind]
        if rows:
            yield f"## {title}\n"
            yield from table(rows)
            yield ""
    yield "## What it would take\n"
    for outcome in outcomes:
        yield f"- **{label(outcome)}**: {words(outcome)}"
    yield "\n## Verdicts\n"
    yield "As the studies gave them, by the rounds that also chose the settings:\n"
    for outcome in outcomes:
        yield f"- {verdict(outcome.record)}"


def heading(name: str, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The title, the machine and versions, and what the numbers mean."""
    first = outcomes[0].record
    target = share(first.result.target or 0.0)
    versions = ", ".join(f"{package} {number}" for package, number in first.versions.items())
    yield "# Keeping an accelerator busy\n"
    yield (
        f"Made by `make accelerators` (studies `{name}-*`): {first.host}, "
        f"{platform.system()} {platform.release()}; {versions}.\n"
    )
    yield (
        "The accelerators are emulated: a step takes its known time and no core. Each study looks "
        f"for the settings that keep the step busy for at least {target} of the time with the "
        "least CPU time. *Busy* is the rate as a share of the step's, with its 95% interval, in "
        "interleaved rounds that came after the choice. *Cores* (CPU seconds per second of "
        "training if the step never has to wait for data, so 0.5 is half a core) and *MiB* are "
        "from the rounds that chose. *Allowed* is the rate that cores and generator allow, over "
        "the step's rate, by the study's rounds; the steps were set before, by three readings.\n"
    )
    yield (
        "Each pipeline is tuned for two steps. The *known step* is from MLPerf Storage: the "
        f"fastest one that needs at most 1/{EASY:g} of the rate that cores and generator allow, "
        f"and takes at most {LONGEST_S:g} s at one of the pipeline's batch sizes. The *hard step* "
        f"is made up: it needs {HARD:.0%} of that rate.\n"
    )


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Utilisation and cost of AUTOTUNE and of the recommendation."""
    yield (
        "| pipeline | step | batch | AUTOTUNE busy | cores | MiB | recommended busy | cores | MiB "
        "| allowed | recommended settings |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    yield from map(_row, outcomes)


def label(outcome: Outcome) -> str:
    """The pipeline and the step that it feeds."""
    return f"{outcome.record.info.name} feeding {outcome.fed.step}"


def words(outcome: Outcome) -> str:
    """Whether the target is reached by the whole interval in fresh rounds, or what is missing."""
    busy, result = outcome.busy(RECOMMENDED), outcome.record.result
    target = result.target or 0.0
    if busy is not None and busy.ci.low >= target:
        return "reached"
    if busy is not None and busy.ci.high >= target:
        return f"open: {share_with_interval(busy)} busy, so more rounds would decide"
    return what_it_takes(result) or "out of reach; the limit was not measured"


def _row(outcome: Outcome) -> str:
    record, chosen = outcome.record, outcome.chosen
    assert chosen is not None
    result = record.result
    autotune = found(record, AUTOTUNE)
    step = str(outcome.fed.step)
    known = step.partition("@")[2] if outcome.fed.kind == EASY_STEP else step
    is_kept = chosen.candidate == AUTOTUNE
    limit = result.limit
    return row(
        record.info.name,
        known,
        str(outcome.fed.batch_size),
        _share(outcome.busy(RECOMMENDED if is_kept else AUTOTUNE)),
        f"{cores_to_feed(autotune, result):.2f}" if autotune else NONE,
        mib(autotune.host_peak_mib) if autotune else NONE,
        "AUTOTUNE" if is_kept else _share(outcome.busy(RECOMMENDED)),
        f"{cores_to_feed(chosen, result):.2f}",
        mib(chosen.host_peak_mib),
        _times(limit.before_step / limit.terms.step) if limit else NONE,
        settings(chosen.config, record.info),
    )


def _times(allowed: float) -> str:
    return f"{allowed:,.0f}x" if allowed >= MANY else f"{allowed:.2f}x"


def _share(found: Fraction | None) -> str:
    return NONE if found is None else share_with_interval(found)
