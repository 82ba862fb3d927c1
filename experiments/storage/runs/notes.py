"""Describes a run in a few lines of Markdown: the note that the MLflow UI shows with the run."""

from __future__ import annotations

from collections.abc import Mapping

from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec

# What each state means, for a reader who has not read the README.
STATES = {
    "complete": "measured in full",
    "pruned": "stopped early, clearly worse than the best so far",
    "infeasible": "measured in full, but over the memory limit",
    "failed": "failed",
}


def trial_note(
    spec: TrialSpec,
    outcome: Measurement | TrialFailure,
    state: str,
    tags: Mapping[str, str],
    more: Mapping[str, float],
) -> str:
    """The note of one trial, round or rerun.

    Args:
        spec: what was measured.
        outcome: the measurement or the failure.
        state: the trial's final state, in this project's terms.
        tags: the run's tags, which say what it is within its study.
        more: metrics beyond the measured ones.
    """
    ended = STATES[state]
    if isinstance(outcome, TrialFailure) and state == "infeasible":
        ended = "needs more memory than the GPU has"
    lines = [f"**{spec.config}**, {_part(tags)}: {ended}."]
    if isinstance(outcome, TrialFailure):
        return "\n\n".join([*lines, f"{outcome.kind}: {outcome.detail[:4_000]}"])
    half = (outcome.ci.high - outcome.ci.low) / 2
    lines.append(
        f"{outcome.examples_per_s:,.0f} ± {half:,.0f} examples/s; the host waited for data for "
        f"{100 * outcome.host_wait_fraction:.0f}% of the time; peak memory "
        f"{outcome.host_peak_mib:,.0f} MiB."
    )
    if "prediction/examples_per_s" in more:
        lines.append(f"The prediction was {more['prediction/examples_per_s']:,.0f} examples/s.")
    if outcome.ceilings is not None:
        alone = outcome.ceilings.producer_only
        lines.append(f"Without the step, the chain makes {alone:,.0f} examples/s.")
    if not outcome.memory_resets:
        lines.append("The peak includes model and tracing, because this system can't reset it.")
    if not outcome.settled:
        lines.append("The rate was still drifting when the trial's time ran out.")
    return "\n\n".join(lines)


def _part(tags: Mapping[str, str]) -> str:
    """The role of a run within its study."""
    kind = tags.get(Tag.KIND, "run")
    if kind == Kind.TRIAL:
        chosen = "chosen by the prediction" if Tag.WARM_START in tags else "chosen by the sampler"
        return f"trial {tags.get(Tag.TRIAL_NUMBER, '')} {chosen}"
    if kind == Kind.CONFIRMATION:
        return f"round {tags.get(Tag.ROUND, '')} of {tags.get(Tag.CANDIDATE, '')}"
    if kind == Kind.RERUN:
        return f"rerun of {tags.get(Tag.RERUN_OF, '')}"
    return kind
