"""Writes the recommended pipeline as code to paste: plain tf.data without this project."""

from __future__ import annotations

from prefetch_tuning.experiments.report.rendering import environment
from prefetch_tuning.experiments.report.script_snippet import changed_lines, run_command
from prefetch_tuning.experiments.report.text import plural
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.target import Target


def snippet(record: StudyRecord) -> str:
    """Python source with a function that builds the recommended dataset around a generator.

    The code is the chain of `pipelines/chain/build.py` with its settings and options, and needs
    only TensorFlow. A chain that would not fit on a screen (processes, blocks of nested or padded
    elements) is built by a call of this project instead, and for a script there are the lines to
    change. Without a confirmation the code is for the
    best trial. It is empty if no configuration was measured.
    """
    result = record.result
    chosen = result.recommended or result.best
    if chosen is None:
        return ""
    which = "fastest" if result.target is None else "best for the target"
    reason = f"the {which} of {plural(result.trials.complete, 'complete trial')}, not confirmed"
    if result.recommended is not None:
        reason = result.recommended.reason
    config, why = chosen.config, _why_not_plain(chosen.config, record.info)
    blocks = config.generator_chunk > 1
    given = {"info": record.info, "result": result, "host": record.host, "reason": reason}
    if record.info.chain:
        template = environment().get_template("snippet_script.py.j2")
        lines = changed_lines(config, record.info)
        command = run_command(Target.parse(record.info.target))
        return template.render(given, config=config, lines=lines, command=command)
    if why is not None:
        changed = config.model_dump(exclude_defaults=True)
        arguments = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        template = environment().get_template("snippet_project.py.j2")
        # The training, like the study, runs on a node of the cluster.
        cluster = ', cluster="auto"' if _uses_cluster(config, record) else ""
        return template.render(given, config=config, why=why, arguments=arguments, cluster=cluster)
    template = environment().get_template("snippet.py.j2")
    return template.render(
        given,
        config=config,
        blocks=blocks,
        late_map=config.vectorized_map,
        batching=_batching(config, record.info),
        options=config.needs_options,
    )


def _uses_cluster(config: PipelineConfig, record: StudyRecord) -> bool:
    """Whether the generator's processes are more than the study's host had cores for."""
    diagnosis = record.result.diagnosis
    found = diagnosis.costs.elsewhere if diagnosis else None
    return found is not None and config.generator_workers > found.own_cores


def _why_not_plain(config: PipelineConfig, info: PipelineInfo) -> str | None:
    """Why plain tf.data code would not do; None if it does."""
    if info.kind == "chain":
        return "The pipeline declares its own chain, which this project builds."
    if info.kind == "batches":
        return "The pipeline builds its own chain; these are the settings for it."
    if config.generator_workers:
        return "The generator runs in separate processes, which needs this project's code."
    if config.generator_chunk > 1 and (info.padded or not info.flat):
        return "Blocks of nested or padded elements need this project's code to be split."
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
        return f"    # Regroups blocks into batches.\n    dataset = dataset.rebatch({size})"
    return f"    dataset = dataset.batch({size})"
