"""Puts a study's verdict into a sentence, and its recommendation into terms and texts. Pure."""

from __future__ import annotations

import math

from prefetch_tuning.experiments.report import target_words
from prefetch_tuning.experiments.report.text import (
    between,
    memory,
    plural,
    rate,
    sentence,
    settings,
    side_effects,
    times,
)
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.verdict.confirmation import Speedup
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE


def verdict(record: StudyRecord) -> str:
    """The verdict in one sentence, with its uncertainty."""
    result = record.result
    if target_words.is_judged(result):
        return target_words.verdict(record)
    if result.speedup is not None:
        return f"{record.info.name}: {_compared(result.speedup, result)}."
    if result.recommended is not None:
        use = settings(result.recommended.config, record.info)
        return f"{record.info.name}: use {use} ({result.recommended.reason})."
    if result.best is None:
        return f"{record.info.name}: no result; none of {result.trials.total} trials completed."
    return (
        f"{record.info.name}: unconfirmed. The best of "
        f"{plural(result.trials.complete, 'noisy trial')} is partly luck; prefetch-tune confirm "
        f"{result.study} compares it with AUTOTUNE."
    )


def tone(result: StudyResult) -> str:
    """How certain the verdict is: the class that colours its box."""
    if result.recommended is None:
        return "bad" if result.best is None else "unsure"
    if target_words.is_judged(result):
        return "good" if target_words.reaches(result) else "bad"
    won = result.speedup is not None and result.speedup.verdict == "faster"
    return "good" if won else "neutral"


def choice(record: StudyRecord) -> list[tuple[str, str]]:
    """The configuration to use, as pairs of a term and its text; empty if there is none."""
    result = record.result
    chosen = result.recommended or result.best
    if chosen is None:
        return []
    which = "fastest" if result.target is None else "best for the target"
    reason = f"the {which} of {plural(result.trials.complete, 'complete trial')}, not confirmed"
    if result.recommended is not None:
        reason = result.recommended.reason
    interval = "a single round has no interval"
    if math.isfinite(chosen.ci.high):
        interval = f"95% interval {between(chosen.ci)}"
    return [
        ("Configuration", settings(chosen.config, record.info)),
        ("Throughput", f"{rate(chosen.examples_per_s)} examples/s ({interval})"),
        ("Peak memory", memory(chosen.host_peak_mib, chosen.device_peak_mib)),
        *target_words.facts(record),
        *side_effects(record),
        ("Why this one", reason),
    ]


def _compared(speedup: Speedup, result: StudyResult) -> str:
    size = _batch_size(speedup.candidate, result.confirmation)
    at = "" if size is None else f" at batch size {size:,}"
    found = times(speedup)
    advice = _advice(result)
    if not math.isfinite(speedup.ci.high):
        return f"{found} AUTOTUNE{at}, but a single round proves nothing{advice}"
    if speedup.verdict == "too few rounds":
        return (
            f"AUTOTUNE failed in {plural(result.baseline_failures, 'round')}{at}; in the others "
            f"the ratio to it was {found}{advice}"
        )
    if speedup.verdict == "faster":
        return f"{times(speedup, 'AUTOTUNE')}{at}"
    if speedup.verdict == "slower":
        return f"slower than AUTOTUNE{at}: {found}{advice}"
    return f"no significant difference from AUTOTUNE{at}: {found}{advice}"


def _advice(result: StudyResult) -> str:
    chosen = result.recommended
    if chosen is None:
        return ""
    return ". Keep AUTOTUNE" if chosen.candidate == AUTOTUNE else f". {sentence(chosen.reason)}"


def _batch_size(candidate: str, confirmation: list[Confirmed]) -> int | None:
    return next((c.config.batch_size for c in confirmation if c.candidate == candidate), None)
