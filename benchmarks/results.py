"""Tunes every built-in pipeline and writes docs/results.md with its plot: `make results`.

.venv/bin/python benchmarks/results.py            measures, about half an hour
.venv/bin/python benchmarks/results.py --of NAME  writes the document of an earlier run anew
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import matplotlib as mpl

from experiments.api import tune
from experiments.conclusion import result_of, study_record
from experiments.confirmation import AUTOTUNE, BASIC, Confirmed
from experiments.limit import IN_WORDS
from experiments.record import Record
from experiments.report.text import between, memory_price, share
from experiments.report.text import rate as rated
from experiments.results import StudyRecord
from experiments.store import Store
from experiments.studies import load_study
from pipelines import catalog

mpl.use("svg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
# What the project set out for on two cores.
LEAST_RATIO, LEAST_MEAN, LEAST_SIMPLE, LEAST_SHARE, MOST_MEMORY = 0.97, 4.0, 20.0, 0.85, 1.2
# More search than by default: a list of results is made once, and for others.
SEARCH_S = 40.0
COLOURS = {"AUTOTUNE": "#8a8f98", "basic axes": "#5b8dc9", "all axes": "#2a9d6f"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="of an earlier run, as its document says")
    parser.add_argument("pipelines", nargs="*", help="built-in names; all of them if none")
    options = parser.parse_args()
    name = options.of or f"results-{datetime.now():%Y%m%d-%H%M}"
    pipelines = options.pipelines or catalog.names()
    if options.of is None:
        tuned = tune(*pipelines, study=name, time_budget_s=SEARCH_S, trials=40)
        if tuned.problems:
            print("\n".join(tuned.problems), file=sys.stderr)
    store = Store.choose(Path.cwd(), None, None)
    records = []
    for pipeline in pipelines:
        study = load_study(f"{name}-{pipeline}" if len(pipelines) > 1 else name, store)
        kept = Record(study)
        records.append(study_record(study, result_of(kept, *kept.spent)))
    plot(records, DOCS / "results.svg")
    (DOCS / "results.md").write_text("\n".join(document(name, records)) + "\n", encoding="utf-8")
    print(f"{DOCS / 'results.md'} is written")
    return 0


def document(name: str, records: Sequence[StudyRecord]) -> Iterator[str]:
    """The lines of docs/results.md."""
    first = records[0]
    versions = ", ".join(f"{package} {number}" for package, number in first.versions.items())
    yield "# What tuning the built-in pipelines gave\n"
    yield (
        f"Made by `make results` (studies `{name}-*`): {first.host}, {first.result.device}, "
        f"{platform.system()} {platform.release()}; {versions}. All rates are examples/s, medians "
        "of interleaved rounds in fresh processes; ratios are paired within rounds, with their 95 % "
        "bootstrap interval, at equal batch size.\n"
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
        yield f"- **{record.info.name}**: {memory_price(record.result)}"
    yield "\n## Against what the project set out for\n"
    yield from checks(records)
    yield "\n## Axes that were not searched\n"
    for record in records:
        reasons = "; ".join(f"`{axis}`: {why}" for axis, why in record.left_out.items())
        yield f"- **{record.info.name}**: {reasons}"


def rates_row(record: StudyRecord) -> str:
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
    chosen, autotune = found(record, None), found(record, AUTOTUNE)
    diagnosis = record.result.diagnosis
    cells = [
        record.info.name,
        diagnosis.bottleneck if diagnosis else "its own chain, not taken apart",
        str(chosen.config) if chosen else "",
        f"{autotune.host_peak_mib:,.0f}" if autotune else "",
        f"{chosen.host_peak_mib:,.0f}" if chosen else "",
    ]
    return f"| {' | '.join(cells)} |"


def found(record: StudyRecord, candidate: str | None) -> Confirmed | None:
    """A candidate of the confirmation; the recommended one for None."""
    recommended = record.result.recommended
    wanted = candidate or (recommended.candidate if recommended else "")
    return next((c for c in record.result.confirmation if c.candidate == wanted), None)


def rate_cell(candidate: Confirmed | None) -> str:
    return f"{rated(candidate.examples_per_s)} ({between(candidate.ci)})" if candidate else "-"


def ratio_cell(candidate: Confirmed | None) -> str:
    if candidate is None or candidate.ratio is None:
        return "1" if candidate else "-"
    ratio = candidate.ratio
    return f"{ratio.ratio:.2f} ({ratio.ci.low:.2f} to {ratio.ci.high:.2f})"


def limit_words(record: StudyRecord) -> str:
    chosen = found(record, None)
    if chosen is None or chosen.limit is None:
        return "no limit was measured."
    limit = chosen.limit
    terms = ", ".join(
        f"{name.replace('_', ' ')} {rated(value)}"
        for name, value in limit.terms.model_dump().items()
    )
    low, high = limit.fraction_ci.low, limit.fraction_ci.high
    return (
        f"{share(limit.fraction)} ({share(low)} to {share(high)}) of {rated(limit.examples_per_s)}, "
        f"set by {IN_WORDS[limit.binding]}. Terms: {terms}."
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
    return f"- {'met' if met else '**not met**'}: {text}"


def plot(records: Sequence[StudyRecord], path: Path) -> None:
    """Bars of the three rates for each pipeline on a log scale, and each one's limit as a tick."""
    figure, axis = plt.subplots(figsize=(9, 0.75 * len(records) + 1.4), layout="constrained")
    candidates = {"AUTOTUNE": AUTOTUNE, "basic axes": BASIC, "all axes": None}
    for row, record in enumerate(records):
        for place, (label, candidate) in enumerate(candidates.items()):
            reached = found(record, candidate)
            if reached is None:
                continue
            y, x = row + 0.26 * (place - 1), reached.examples_per_s
            error = [[x - reached.ci.low], [reached.ci.high - x]]
            axis.barh(y, x, 0.24, color=COLOURS[label], label=label if row == 0 else None)
            axis.errorbar(x, y, xerr=error, color="#22272e", capsize=2, linewidth=1)
            if candidate is None and reached.limit:
                top = reached.limit.examples_per_s
                axis.plot([top, top], [y - 0.16, y + 0.16], color="#c0392b", linewidth=2)
    axis.plot([], [], color="#c0392b", linewidth=2, label="limit")
    axis.set_xscale("log")
    axis.set_xlabel("examples/s, with 95 % intervals")
    axis.set_yticks(range(len(records)), [record.info.name for record in records])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e3e6ea")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
