"""What a report says in words: the verdict, the recommendation and the numbers. Pure strings."""

from __future__ import annotations

import math

from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.confirmation import Gain, Speedup
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Fraction, Limit
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.ratio import Ratio
from prefetch_tuning.objectives.measurement import Interval, PipelineInfo
from prefetch_tuning.pipelines.config import PipelineConfig


def rate(examples_per_s: float) -> str:
    """Examples/s without their unit; a slow pipeline keeps the digit that tells it apart."""
    return f"{examples_per_s:,.0f}" if examples_per_s >= 100.0 else f"{examples_per_s:,.1f}"


def between(ci: Interval) -> str:
    """An interval of rates, without its unit; of a single round there is none."""
    return f"{rate(ci.low)} to {rate(ci.high)}" if math.isfinite(ci.high) else "no interval"


def memory(host_mib: float, device_mib: float | None) -> str:
    """Peak memory with its unit."""
    device = "" if device_mib is None else f", {device_mib:,.0f} MiB on the device"
    return f"{host_mib:,.0f} MiB{device}"


def memory_price(result: StudyResult) -> str:
    """What the recommended configuration's memory is against AUTOTUNE's, and what it bought."""
    chosen, autotune = result.recommended, result.baselines.get(AUTOTUNE)
    if chosen is None or autotune is None or chosen.candidate == AUTOTUNE:
        return ""
    times = chosen.host_peak_mib / max(autotune.host_peak_mib, 1.0)
    faster = chosen.examples_per_s / autotune.examples_per_s
    return (
        f"{chosen.host_peak_mib:,.0f} MiB, {times:.1f} times AUTOTUNE's peak memory for "
        f"{faster:.1f} times its rate."
    )


def settings(config: PipelineConfig, info: PipelineInfo) -> str:
    """A configuration as it is written in the chain; the map is left out where there is none."""
    if config.is_autotune:
        return ", ".join([f"batch {config.batch_size}, AUTOTUNE", *config.extras])
    words = [f"batch {config.batch_size}"]
    words.append(f"prefetch {config.prefetch_buffer}" if config.prefetch_buffer else "no prefetch")
    if info.has_transform:
        calls = config.map_parallelism
        words.append("sequential map" if calls == 1 else f"map {calls}")
    return ", ".join([*words, *config.extras])


def verdict(record: StudyRecord) -> str:
    """The one sentence to remember, with its uncertainty."""
    result = record.result
    if result.speedup is not None:
        return f"{record.info.name}: {_compared(result.speedup, result)}."
    if result.recommended is not None:
        use = settings(result.recommended.config, record.info)
        return f"{record.info.name}: use {use}: {result.recommended.reason}."
    if result.best is None:
        return f"{record.info.name}: no result; none of {result.trials.total} trials completed."
    return (
        f"{record.info.name}: unconfirmed. The best is the luckiest of {result.trials.complete} "
        "noisy trials and was not held against AUTOTUNE."
    )


def tone(result: StudyResult) -> str:
    """How sure the verdict is: the colour of its box."""
    if result.recommended is None:
        return "bad" if result.best is None else "unsure"
    won = result.speedup is not None and result.speedup.verdict == "faster"
    return "good" if won else "neutral"


def choice(record: StudyRecord) -> list[tuple[str, str]]:
    """The configuration to use as (what, words); empty if there is none."""
    result = record.result
    chosen = result.recommended or result.best
    if chosen is None:
        return []
    reason = f"fastest of {result.trials.complete} complete trials, not confirmed"
    if result.recommended is not None:
        reason = result.recommended.reason
    interval = "no interval from a single round"
    if math.isfinite(chosen.ci.high):
        interval = f"95 % interval {between(chosen.ci)}"
    return [
        ("Configuration", settings(chosen.config, record.info)),
        ("Throughput", f"{rate(chosen.examples_per_s)} examples/s ({interval})"),
        ("Peak memory", memory(chosen.host_peak_mib, chosen.device_peak_mib)),
        ("Why this one", reason),
    ]


def findings(result: StudyResult) -> list[tuple[str, str]]:
    """What holds the pipeline back and how near it came to the limit, as (what, words)."""
    found = []
    if result.diagnosis is not None:
        found.append(("Limited by", result.diagnosis.in_words))
        found.append(("What to do", result.diagnosis.advice))
    chosen = result.recommended
    if result.gain is not None:
        found.append(("Gained by", gain_words(result.gain)))
    if result.limit is not None and result.fraction is not None:
        found.append(("Reached", of_the_limit(result.limit, result.fraction)))
    measured = next(
        (c for c in result.confirmation if chosen and c.candidate == chosen.candidate), None
    )
    if measured is not None and result.limit is not None:
        found.append(("A batch takes", batch_time(result.limit, measured)))
    if result.data_checked is not None:
        found.append(("Data", _data_words(result)))
    return found


def _data_words(result: StudyResult) -> str:
    if not result.data_checked:
        return (
            "not compared: two runs of the plain chain, one of them with AUTOTUNE, differ already, "
            "or could not be read"
        )
    if result.other_data:
        return f"out for other data than the plain chain's: {', '.join(result.other_data)}"
    most = f" (up to {result.data_batches})" if result.data_batches else ""
    return (
        f"every candidate's first batches{most} are the plain chain's, bit for bit, in every round"
    )


def gain_words(gain: Gain) -> str:
    """What a gain over AUTOTUNE consists of: structure so much, settings so much."""
    return (
        f"the structure: {times(gain.structure)} with AUTOTUNE on it; by fixed settings instead of "
        f"AUTOTUNE on that structure: {times(gain.settings)}"
    )


def times(ratio: Ratio) -> str:
    """A ratio with its interval, as in "1.32x (1.20x to 1.41x)"."""
    digits = 0 if ratio.ratio >= 20 else 1 if ratio.ratio >= 5 else 2
    words = f"{ratio.ratio:.{digits}f}x"
    if not math.isfinite(ratio.ci.high):
        return words
    return f"{words} ({ratio.ci.low:.{digits}f}x to {ratio.ci.high:.{digits}f}x)"


def of_the_limit(limit: Limit, fraction: Fraction) -> str:
    """How near a configuration came to what the machine allows, and what sets that."""
    between_shares = ""
    if math.isfinite(fraction.ci.high):
        between_shares = f" ({share(fraction.ci.low)} to {share(fraction.ci.high)})"
    words = (
        f"{share(fraction.share)}{between_shares} of the limit, {rate(limit.examples_per_s)} "
        f"examples/s, set by {limit.in_words}"
    )
    if fraction.ci.low > 1.0:
        words += "; more than all cannot be, so one of the two was measured wrong"
    return words


def batch_time(limit: Limit, found: Confirmed) -> str:
    """What a batch's time in the loop consists of, beside what each half takes alone."""
    size = found.config.batch_size
    whole_s = size / found.examples_per_s
    waited_s = found.wait_fraction * whole_s
    ready_s = size / limit.terms.step
    making = (
        f"making one takes {span(size / found.producer_only)}, and " if found.producer_only else ""
    )
    busy = found.cpu_s_per_example * found.examples_per_s
    return (
        f"{span(whole_s)}: the step waits {span(waited_s)} for it and takes "
        f"{span(whole_s - waited_s)}, with {busy:.1f} of {limit.cores:g} cores busy. Alone, "
        f"{making}the step on one that lies ready {span(ready_s)}, with {limit.step_cores:.1f} "
        "cores busy"
    )


def span(seconds: float) -> str:
    """A short time with its unit."""
    return f"{1e3 * seconds:.1f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.2f} ms"


def counts(result: StudyResult) -> str:
    """How the trials ended."""
    ended = result.trials
    parts = [f"{ended.complete} complete", f"{ended.pruned} pruned", f"{ended.failed} failed"]
    if ended.infeasible:
        parts.append(f"{ended.infeasible} short of memory")
    return f"{ended.total} trials: {', '.join(parts)}"


def share(of_one: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{100.0 * of_one:,.{digits}f} %"


def changes(*shares: float) -> list[str]:
    """Signed percentages, with a decimal if the smallest of them would be lost without."""
    digits = 1 if min(abs(change) for change in shares) < 0.02 else 0
    return [f"{100.0 * change:+,.{digits}f} %" for change in shares]


def _compared(speedup: Speedup, result: StudyResult) -> str:
    size = _batch_size(speedup.candidate, result.confirmation)
    at = "" if size is None else f" at batch size {size:,}"
    advice = _advice(result)
    if not math.isfinite(speedup.ci.high):
        return f"a single round says nothing about AUTOTUNE{at} (ratio {speedup.ratio:.2f}){advice}"
    if speedup.verdict == "too few rounds":
        return (
            f"AUTOTUNE gave no rate in {result.baseline_failures} rounds{at}, and "
            f"{speedup.ratio:.2f} is the ratio to it in the others{advice}"
        )
    if speedup.verdict == "no significant difference":
        interval = f"95 % interval {speedup.ci.low:.2f} to {speedup.ci.high:.2f}"
        return (
            f"no significant difference from AUTOTUNE{at} "
            f"(ratio {speedup.ratio:.2f}, {interval}){advice}"
        )
    by, low, high = changes(speedup.ratio - 1.0, speedup.ci.low - 1.0, speedup.ci.high - 1.0)
    words = f"{speedup.verdict} than AUTOTUNE by {by[1:]} (95 % interval {low} to {high}){at}"
    return words if speedup.verdict == "faster" else words + advice


def _advice(result: StudyResult) -> str:
    chosen = result.recommended
    if chosen is None:
        return ""
    return ": keep AUTOTUNE" if chosen.candidate == AUTOTUNE else f": {chosen.reason}"


def _batch_size(candidate: str, confirmation: list[Confirmed]) -> int | None:
    return next((c.config.batch_size for c in confirmation if c.candidate == candidate), None)
