"""Puts a study's findings into words: verdict, recommendation, numbers. Pure: returns strings."""

from __future__ import annotations

import math

from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.confirmation import Gain
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Fraction, Limit
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.ratio import Ratio
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig


def rate(examples_per_s: float) -> str:
    """A rate without its unit; below 100 it keeps one decimal, which tells slow pipelines apart."""
    return f"{examples_per_s:,.0f}" if examples_per_s >= 100.0 else f"{examples_per_s:,.1f}"


def between(ci: Interval) -> str:
    """An interval of rates, without its unit; a single round has none."""
    return f"{rate(ci.low)} to {rate(ci.high)}" if math.isfinite(ci.high) else "no interval"


def mib(size: float) -> str:
    """MiB without their unit; below 10 with one decimal."""
    return f"{size:,.0f}" if size >= 10.0 else f"{size:.1f}"


def memory(host_mib: float, device_mib: float | None) -> str:
    """Peak memory with its unit."""
    device = "" if device_mib is None else f", {mib(device_mib)} MiB on the device"
    return f"{mib(host_mib)} MiB{device}"


def memory_price(result: StudyResult) -> str:
    """Compares the recommended configuration's memory with AUTOTUNE's, and what it gained."""
    chosen, autotune = result.recommended, result.baselines.get(AUTOTUNE)
    if chosen is None or autotune is None or chosen.candidate == AUTOTUNE:
        return ""
    more = chosen.host_peak_mib / max(autotune.host_peak_mib, 0.1)
    faster = chosen.examples_per_s / autotune.examples_per_s
    return (
        f"The recommended configuration uses {mib(chosen.host_peak_mib)} MiB: {factor(more)} "
        f"AUTOTUNE's peak memory, for {factor(faster)} its throughput."
    )


def settings(config: PipelineConfig, info: PipelineInfo) -> str:
    """A configuration in words, in the order of the chain; without the map if there is none."""
    if config.as_written:
        return f"batch {config.batch_size}, as the script has it"
    if config.is_autotune:
        return ", ".join([f"batch {config.batch_size}, AUTOTUNE", *config.extras])
    words = [f"batch {config.batch_size}"]
    words.append(f"prefetch {config.prefetch_buffer}" if config.prefetch_buffer else "no prefetch")
    if info.has_transform:
        calls = config.map_parallelism
        words.append("sequential map" if calls == 1 else f"map {calls}")
    return ", ".join([*words, *config.extras])


def side_effects(record: StudyRecord) -> list[tuple[str, str]]:
    """What a configuration changes that its rate doesn't show: pairs of a term and its text."""
    chosen = record.result.recommended or record.result.best
    found = []
    if chosen is not None and chosen.config.generator_workers:
        size = "" if record.server_mib is None else f" about {mib(record.server_mib)} MiB of"
        words = (
            "in your training, a server process starts the generator's processes; it imports "
            f"TensorFlow again, which takes{size} memory that trials don't show"
        )
        found.append(("Processes", words))
    if chosen is not None and chosen.config.cache:
        words = "the first pass over the data fills it; the rate is that of the later passes"
        if record.info.written:
            words = "the first epoch fills it; the rate is the mean over the epochs of the training"
        found.append(("Cache", words))
    if chosen is not None and chosen.config.reorder:
        words = "the elements come in another order, which may differ from run to run"
        found.append(("Order", words))
    return found


def findings(result: StudyResult) -> list[tuple[str, str]]:
    """The bottleneck, the gain and the limit, as pairs of a term and its text."""
    found = []
    if result.diagnosis is not None:
        found.append(("Limited by", result.diagnosis.in_words))
        found.append(("What to do", result.diagnosis.advice))
        if result.diagnosis.pauses is not None:
            found.append(("Generator", result.diagnosis.pauses.in_words))
    chosen = result.recommended
    if result.over_written is not None:
        found.append(("Script", f"{times(result.over_written)} the rate of the script as written"))
    if result.gain is not None:
        found.append(("Gain", gain_words(result.gain)))
    if result.limit is not None and result.fraction is not None:
        found.append(("Limit", of_the_limit(result.limit, result.fraction)))
    if result.utilisation is not None and result.target is None:  # else it is said already
        found.append(("Utilisation", of_the_step(result.utilisation, result.device)))
    measured = next(
        (c for c in result.confirmation if chosen and c.candidate == chosen.candidate), None
    )
    if measured is not None and result.limit is not None:
        found.append(("Time per batch", batch_time(result.limit, measured, result.device)))
    if result.data_checked is not None:
        found.append(("Data", _data_words(result)))
    return found


def _data_words(result: StudyResult) -> str:
    if not result.data_checked:
        return (
            "not compared, because two runs of the plain chain already gave different batches, or "
            "could not be read"
        )
    if result.other_data:
        return (
            "these candidates are excluded, because their data differ from the plain chain's: "
            + ", ".join(result.other_data)
        )
    if result.data_stages is not None:
        return (
            f"identical behind the first {plural(result.data_stages, 'transformation')} of the "
            "chain; the map that follows draws random numbers in the order of its calls, so its "
            "results differ from run to run"
        )
    most = f" (up to {result.data_batches})" if result.data_batches else ""
    if not any(candidate.config.reorder for candidate in result.confirmation):
        return (
            f"identical: in every round, each candidate's first batches{most} equal the plain "
            "chain's, bit for bit"
        )
    kept = (
        f"identical: in every round, the first batches{most} of each candidate that keeps the "
        "order equal the plain chain's, bit for bit. "
    )
    if result.data_uncompared:
        return f"{kept}The elements of {', '.join(result.data_uncompared)} could not be compared"
    return f"{kept}Candidates that reorder have the same first elements in another order"


def shuffle_words(costs: StageCosts) -> list[str]:
    """What each shuffle buffer of a declared chain costs, as sentences."""
    return [
        f"The shuffle buffer of {cost.buffer_size:,} elements takes "
        f"{f'{cost.fill_s:.1f}' if cost.fill_s >= 0.1 else 'less than 0.1'} s to fill, at the "
        f"beginning of each iterator, and {mib(cost.mib) if cost.mib >= 1.0 else 'under 1'} MiB."
        for cost in costs.shuffles
    ]


def gain_words(gain: Gain) -> str:
    """The two parts of a gain over AUTOTUNE: the structure, then fixed settings on it."""
    return (
        f"{times(gain.structure)} from the structure, with AUTOTUNE on it; "
        f"{times(gain.settings)} from fixed settings instead of AUTOTUNE on that structure"
    )


def times(ratio: Ratio, than: str = "") -> str:
    """A ratio with its interval, like "1.32x (1.20x to 1.41x)"; `than` follows the first "x"."""
    digits = _digits(ratio.ratio)
    words = factor(ratio.ratio) + (f" {than}" if than else "")
    if not math.isfinite(ratio.ci.high):
        return words
    return f"{words} ({ratio.ci.low:.{digits}f}x to {ratio.ci.high:.{digits}f}x)"


def factor(ratio: float) -> str:
    """A ratio without its interval: "1.32x", "8.4x" or "84x"."""
    return f"{ratio:.{_digits(ratio)}f}x"


def _digits(ratio: float) -> int:
    return 0 if ratio >= 20 else 1 if ratio >= 5 else 2


def of_the_limit(limit: Limit, fraction: Fraction) -> str:
    """The share of the limit that a configuration reached, the limit, and what sets it."""
    words = (
        f"{share_with_interval(fraction)} of the limit of {rate(limit.examples_per_s)} examples/s, "
        f"set by {limit.in_words}"
    )
    if fraction.ci.low > 1.0:
        words += ". More than 100% is impossible, so the rate or the limit was measured wrong"
    return words


def of_the_step(utilisation: Fraction, device: str) -> str:
    """The rate as a share of the step's own, and what the rest of the time is."""
    words = f"{share_with_interval(utilisation)} of the rate of the step on ready batches"
    starved = max(1.0 - utilisation.share, 0.0)
    if device != "cpu":
        which = "the GPU" if device.startswith("gpu") else "the emulated accelerator"
        return f"{words}: {which} waits for data {share(starved)} of the time"
    return (
        f"{words}. On a CPU the rest is not all waiting: the input pipeline also takes cores from "
        "the step"
    )


def share_with_interval(fraction: Fraction) -> str:
    """A share with its interval."""
    if not math.isfinite(fraction.ci.high):
        return share(fraction.share)
    return f"{share(fraction.share)} ({share(fraction.ci.low)} to {share(fraction.ci.high)})"


def batch_time(limit: Limit, found: Confirmed, device: str) -> str:
    """How long a batch takes in the loop, and how long making it and its step take alone."""
    size = found.config.batch_size
    whole_s = size / found.examples_per_s
    waited_s = found.host_wait_fraction * whole_s
    ready_s = size / limit.terms.step
    making = ""
    if found.producer_only:
        making = f"making a batch takes {span(size / found.producer_only)} and "
    busy = found.cpu_s_per_example * found.examples_per_s
    parts = ""
    if device == "cpu":  # otherwise the host may wait while steps run
        parts = (
            f", of which the step waits {span(waited_s)} for data and runs "
            f"{span(whole_s - waited_s)}"
        )
    return (
        f"{span(whole_s)}{parts}; {busy:.1f} of {limit.cores:g} cores are busy. "
        f"Alone, {making}a step on a ready batch takes {span(ready_s)} and keeps "
        f"{limit.step_cores:.1f} cores busy"
    )


def span(seconds: float) -> str:
    """A short time in ms."""
    return f"{1e3 * seconds:.1f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.2f} ms"


def counts(result: StudyResult) -> str:
    """The number of trials, by how they ended."""
    ended = result.trials
    parts = [f"{ended.complete} complete", f"{ended.pruned} pruned", f"{ended.failed} failed"]
    if ended.infeasible:
        parts.append(f"{ended.infeasible} over a memory limit")
    return f"{plural(ended.total, 'trial')}: {', '.join(parts)}"


def plural(count: int, noun: str) -> str:
    """A number and its noun, as in "1 round" and "2 rounds"."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def share(of_one: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{100.0 * of_one:,.{digits}f}%"


def sentence(words: str) -> str:
    """The words with a capital at their beginning; the rest stays as it is."""
    return words[:1].upper() + words[1:]
