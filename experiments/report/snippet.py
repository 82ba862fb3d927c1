"""The recommended pipeline as code to paste: plain tf.data, nothing of this project."""

from __future__ import annotations

from prefetch_tuning.experiments.report.rendering import environment
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.measurement import PipelineInfo
from prefetch_tuning.pipelines.config import PipelineConfig


def snippet(record: StudyRecord) -> str:
    """Python source with a function that builds the recommended dataset around a generator.

    It is the chain of `pipelines/chain/build.py`, settings and options included, and needs
    TensorFlow only; where the chain takes more than fits on a screen (processes, blocks of nested
    or padded elements) it is the call of this project that builds it. Without a confirmation it is
    the best trial's; empty if there is no configuration at all.
    """
    result = record.result
    chosen = result.recommended or result.best
    if chosen is None:
        return ""
    reason = f"the fastest of {result.trials.complete} complete trials, not confirmed"
    if result.recommended is not None:
        reason = result.recommended.reason
    config, why = chosen.config, _why_not_plain(chosen.config, record.info)
    blocks = config.generator_chunk > 1
    given = {"info": record.info, "result": result, "host": record.host, "reason": reason}
    if why is not None:
        changed = config.model_dump(exclude_defaults=True)
        arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        template = environment().get_template("snippet_project.py.j2")
        return template.render(given, config=config, why=why, arguments=arguments)
    template = environment().get_template("snippet.py.j2")
    return template.render(
        given,
        config=config,
        blocks=blocks,
        late_map=config.vectorized_map,
        batching=_batching(config, record.info),
        threads=config.sets_threads,
    )


def _why_not_plain(config: PipelineConfig, info: PipelineInfo) -> str | None:
    """What the plain chain cannot show; None where it can."""
    if info.kind == "batches":
        return "Its chain is its own; these are the settings for it."
    if config.generator_workers:
        return "It runs the generator in processes, which is this project's code."
    if config.generator_chunk > 1 and (info.padded or not info.flat):
        return "It takes apart blocks of elements that are no plain tuples of one size."
    return None


def _batching(config: PipelineConfig, info: PipelineInfo) -> str:
    size = config.batch_size
    if info.padded:
        return (
            "    # A dimension is unknown, so each batch is padded with zeros to its longest "
            "element.\n"
            f"    dataset = dataset.padded_batch({size})"
        )
    if config.generator_chunk > 1 and (config.vectorized_map or not info.has_transform):
        return f"    # From blocks to batches.\n    dataset = dataset.rebatch({size})"
    return f"    dataset = dataset.batch({size})"
