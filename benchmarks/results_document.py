"""The text of docs/results.md: studies in, lines out."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator, Sequence

from experiments.report.text import batch_time, between, memory_price, rate, share
from experiments.results import StudyRecord
from experiments.verdict.confirmation import AUTOTUNE, BASIC, Confirmed
from experiments.verdict.limit import IN_WORDS, Limit

# Above this share of its time the step waits for batches more than it trains.
MOSTLY = 0.5
# What the project set out for on two cores.
LEAST_RATIO, LEAST_MEAN, LEAST_SIMPLE, LEAST_SHARE, MOST_MEMORY = 0.97, 4.0, 20.0, 0.85, 1.2


def document(name: str, records: Sequence[StudyRecord]) -> Iterator[str]:
    """The lines of docs/results.md."""
    first = records[0]
    versions = ", ".join(f"{package} {number}" for package, number in first.versions.items())
    yield "# What tuning the built-in pipelines gave\n"
    yield (
        f"Made by `make results` (studies `{name}-*`): {first.host}, {first.result.device}, "
        f"{platform.system()} {platform.release()}; {versions}. All rates are examples/s, medians "
        "of interleaved rounds in fresh processes; ratios are paired within rounds, with their "
        "95 % bootstrap interval, at equal batch size.\n"
    )
    yield "![Rates of AUTOTUNE, of the best with basic axes and with all axes](results.svg)\n"
    yield "## Rates\n"
    yield (
        "| pipeline | batch | AUTOTUNE | best, basic axes | ratio | recommended | ratio | of its "
        "limit |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for record in records:
        yield rates_row(record)
    yield "\n## What won\n"
    yield "| pipeline | limited by | recommended settings | peak MiB, AUTOTUNE | recommended |"
    yield "|---|---|---|---:|---:|"
    for record in records:
        yield settings_row(record)
    yield "\n## What the rest of the way to the limit is\n"
    for record in records:
        yield f"- **{record.info.name}**: {limit_words(record)}"
    yield "\n## What more memory bought\n"
    for record in records:
        price = memory_price(record.result) or "AUTOTUNE is what is recommended."
        yield f"- **{record.info.name}**: {price}"
    yield "\n## Against what the project set out for\n"
    yield from checks(records)
    yield "\n## Axes that were not searched\n"
    for record in records:
        reasons = "; ".join(f"`{axis}`: {why}" for axis, why in record.left_out.items())
        yield f"- **{record.info.name}**: {reasons}"


def rates_row(record: StudyRecord) -> str:
    """AUTOTUNE, the best with basic axes and the recommended configuration of one pipeline."""
    chosen, autotune, basic = (found(record, name) for name in (None, AUTOTUNE, BASIC))
    reached = f"{share(chosen.limit.fraction)}" if chosen and chosen.limit else ""
    cells = [
        record.info.name,
        str(chosen.config.batch_size) if chosen else "",
        rate_cell(autotune),
        rate_cell(basic),
        ratio_cell(basic),
        rate_cell(chosen),
        ratio_cell(chosen),
        reached,
    ]
    return f"| {' | '.join(cells)} |"


def settings_row(record: StudyRecord) -> str:
    """What limits a pipeline, and with what settings it is recommended."""
    chosen, autotune = found(record, None), found(record, AUTOTUNE)
    diagnosis = record.result.diagnosis
    cells = [
        record.info.name,
        diagnosis.bottleneck if diagnosis else "its own chain, not taken apart",
        won_by(record, chosen),
        f"{autotune.host_peak_mib:,.0f}" if autotune else "",
        f"{chosen.host_peak_mib:,.0f}" if chosen else "",
    ]
    return f"| {' | '.join(cells)} |"


def won_by(record: StudyRecord, chosen: Confirmed | None) -> str:
    """The recommended settings; for AUTOTUNE, what the best of the others reached."""
    if chosen is None:
        return ""
    tuned = [c for c in record.result.confirmation if c.candidate.startswith("tuned")]
    if chosen.candidate != AUTOTUNE or not tuned:
        return str(chosen.config)
    return f"AUTOTUNE; {tuned[0].config} reached {ratio_cell(tuned[0])} of it"


def found(record: StudyRecord, candidate: str | None) -> Confirmed | None:
    """A candidate of the confirmation; the recommended one for None."""
    recommended = record.result.recommended
    wanted = candidate or (recommended.candidate if recommended else "")
    return next((c for c in record.result.confirmation if c.candidate == wanted), None)


def rate_cell(candidate: Confirmed | None) -> str:
    """A rate with its interval."""
    return f"{rate(candidate.examples_per_s)} ({between(candidate.ci)})" if candidate else "-"


def ratio_cell(candidate: Confirmed | None) -> str:
    """The ratio to AUTOTUNE with its interval; 1 for AUTOTUNE itself."""
    if candidate is None or candidate.ratio is None:
        return "1" if candidate else "-"
    ratio = candidate.ratio
    return f"{ratio.ratio:.2f} ({ratio.ci.low:.2f} to {ratio.ci.high:.2f})"


def limit_words(record: StudyRecord) -> str:
    """How near the limit the recommendation came, and what every term of the limit is."""
    chosen = found(record, None)
    if chosen is None or chosen.limit is None:
        return "no limit was measured."
    limit = chosen.limit
    terms = ", ".join(
        f"{name.replace('_', ' ')} {rate(value)}"
        for name, value in limit.terms.model_dump().items()
    )
    low, high = limit.fraction_ci.low, limit.fraction_ci.high
    return (
        f"{share(limit.fraction)} ({share(low)} to {share(high)}) of "
        f"{rate(limit.examples_per_s)}, set by {IN_WORDS[limit.binding]}. Terms: {terms}."
        f"{the_rest(chosen, limit) if limit.fraction < LEAST_SHARE else ''}"
    )


def the_rest(chosen: Confirmed, limit: Limit) -> str:
    """What a batch's time in the loop goes to, and why no setting of the pipeline gets it back."""
    words = f" A batch takes {batch_time(limit, chosen.config.batch_size, chosen.examples_per_s)}."
    making = chosen.examples_per_s / limit.terms.producer_only
    busy = share(chosen.examples_per_s / limit.terms.cpu)
    cores = f"the {limit.cores} cores, which are busy for {busy} of the time"
    if limit.wait_fraction > MOSTLY:
        processes = chosen.config.generator_workers
        return (
            f"{words} The step mostly waits, and making a batch alone takes {share(making)} of "
            f"what it takes beside the step: {processes + 1} processes and what they read from "
            f"share {cores}. In the rest the process whose turn it is waits for its read."
        )
    longer = limit.terms.consumer_only / chosen.examples_per_s - 1.0
    return (
        f"{words} Making batches is fast enough, {share(making)} of that time, so that neither a "
        f"deeper buffer nor more calls at once give more. But beside it the step with its wait "
        f"takes {longer:.0%} longer than on batches that lie ready: the threads of both wait for "
        f"one another on {cores}, and no setting that was searched takes that away."
    )


def checks(records: Sequence[StudyRecord]) -> Iterator[str]:
    """Each aim with what was reached, met or not."""
    chosen = {record.info.name: found(record, None) for record in records}
    ratios = {n: c.ratio.ratio if c and c.ratio else 1.0 for n, c in chosen.items()}
    lows = {n: c.ratio.ci.low if c and c.ratio else 1.0 for n, c in chosen.items()}
    mean = math.exp(sum(math.log(ratio) for ratio in ratios.values()) / len(ratios))
    worst = min(lows, key=lambda name: lows[name])
    yield check(
        lows[worst] >= LEAST_RATIO,
        f"no recommendation slower than AUTOTUNE: the least lower end of a ratio is "
        f"{lows[worst]:.2f} ({worst}), wanted {LEAST_RATIO}",
    )
    yield check(
        mean >= LEAST_MEAN,
        f"geometric mean of the {len(ratios)} ratios: {mean:.1f}, wanted {LEAST_MEAN:g}",
    )
    if "simple" in ratios:
        text = f"ratio of `simple`: {ratios['simple']:.1f}, wanted {LEAST_SIMPLE:g}"
        yield check(ratios["simple"] >= LEAST_SIMPLE, text)
    shares = {n: c.limit.fraction if c and c.limit else 0.0 for n, c in chosen.items()}
    below = [f"{n} {share(s)}" for n, s in shares.items() if s < LEAST_SHARE]
    yield check(
        not below,
        f"at least {share(LEAST_SHARE)} of its limit: all but {', '.join(below) or 'none'}",
    )
    more = []
    for record in records:
        own, autotune = chosen[record.info.name], found(record, AUTOTUNE)
        if own and autotune and own.host_peak_mib > MOST_MEMORY * autotune.host_peak_mib:
            more.append(f"{record.info.name} {own.host_peak_mib / autotune.host_peak_mib:.1f}")
    yield check(
        not more,
        f"peak memory of at most {MOST_MEMORY:g} times AUTOTUNE's: all but "
        f"{', '.join(more) or 'none'}; what it bought is said above",
    )


def check(met: bool, text: str) -> str:
    """A line of the list of aims."""
    return f"- {'met' if met else '**not met**'}: {text}"
