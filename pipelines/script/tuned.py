"""Runs a script to its end, with another chain in its `fit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefetch_tuning.pipelines.adapters.py_dataset import PyDatasetPipeline
from prefetch_tuning.pipelines.chain.build import with_options
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.fit import Changes, FitCall
from prefetch_tuning.pipelines.script.pipeline import ScriptPipeline, described, pipeline_of
from prefetch_tuning.pipelines.script.session import run_script
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.target import Target


def run_tuned(
    target: Target, config: PipelineConfig, chain: str, say: Callable[[str], None]
) -> None:
    """Runs a script to its end, with the data of its `fit` as configured.

    Args:
        target: the script and its arguments.
        config: the configuration that was found for it.
        chain: the chain that was tuned, in words; empty if unknown.
        say: shows a line.

    Raises:
        PipelineError: the script doesn't get to its `fit`, or has another chain there.
    """

    def reached(call: FitCall) -> Changes:
        found = described(call)
        if chain and found != chain:
            raise PipelineError(
                f"the chain of {target.main} isn't the one that was tuned: it was {chain}, and is "
                f"{found}; tune it again"
            )
        say(f"{target.main}: fit gets its data with {config}; its own chain is {found}")
        return changes(Path(target.main), call, config)

    run_script(target, reached)


def changes(path: Path, call: FitCall, config: PipelineConfig) -> Changes:
    """The arguments that give `fit` the configured data.

    Raises:
        PipelineError: a setting doesn't fit this script.
    """
    if config.as_written:
        return {}
    pipeline = pipeline_of(path, call)
    if isinstance(pipeline, ScriptPipeline):
        dataset = pipeline.given_to_fit(config, 0)
    elif isinstance(pipeline, PyDatasetPipeline):
        if config.is_autotune:
            return {}  # its own settings
        # The dataset is shuffled and weighted already.
        dataset = pipeline.given_to_fit(
            config,
            shuffle=bool(call.arguments.get("shuffle", True)),
            endless=call.arguments.get("steps_per_epoch") is not None,
        )
        return {"x": with_options(dataset, config), "class_weight": None, "shuffle": False}
    else:
        dataset = pipeline.make_batches(config, 0)
    # With the options under which the configuration was measured.
    return {"x": with_options(dataset, config)}
