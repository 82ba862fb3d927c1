"""The recommended pipeline as code to paste: plain tf.data, nothing of this project."""

from __future__ import annotations

from experiments.report.rendering import environment
from experiments.results import StudyRecord


def snippet(record: StudyRecord) -> str:
    """Python source with a function that builds the recommended dataset around a generator.

    It is the chain of `pipelines.build`, settings and options included, and needs TensorFlow only.
    Without a confirmation it is the best trial's; empty if there is no configuration at all.
    """
    result = record.result
    chosen = result.recommended or result.best
    if chosen is None:
        return ""
    reason = f"the fastest of {result.trials.complete} complete trials, not confirmed"
    if result.recommended is not None:
        reason = result.recommended.reason
    return (
        environment()
        .get_template("snippet.py.j2")
        .render(
            info=record.info,
            result=result,
            host=record.host,
            config=chosen.config,
            reason=reason,
        )
    )
