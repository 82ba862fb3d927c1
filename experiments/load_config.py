"""Loads the configuration that a run recommends into a user's own training code."""

from __future__ import annotations

from pathlib import Path

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.storage.config_file import (
    CONFIG_FILE,
    config_from_file,
    config_from_text,
)
from prefetch_tuning.experiments.storage.locations import RUNS, Store
from prefetch_tuning.experiments.storage.runs.reader import RunReader
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.pipelines.config import PipelineConfig


def load_config(
    source: str | Path | None = None,
    *,
    pipeline: str | None = None,
    tracking_uri: str | None = None,
) -> PipelineConfig:
    """Loads the settings for `build_dataset` from a run, a file or a pipeline's latest study.

    Args:
        source: `runs:/RUN_ID` of a study (for what it recommends), a trial or a round, or the path
            of a `config.json` that was downloaded from one of them.
        pipeline: name of a pipeline, instead of `source`. Its latest study that recommends
            something is used.
        tracking_uri: address of MLflow; by default MLFLOW_TRACKING_URI if it is set, otherwise
            `mlruns/` in the current directory.

    Raises:
        StudyError: there is no such run or file, it recommends nothing, or both or neither of
            `source` and `pipeline` are given.
        ConfigError: the run or file has no valid configuration.
    """
    if (source is None) == (pipeline is None):
        raise StudyError('give either a source, like "runs:/RUN_ID", or pipeline="NAME"')
    if source is not None and not str(source).startswith(RUNS):
        return config_from_file(Path(source))
    store = Store.choose(Path.cwd(), None, tracking_uri, runs_only=True)
    store.check_tracking_exists()
    runs = RunReader(store)
    run_id = str(source).removeprefix(RUNS) if source else _latest(runs, str(pipeline))
    return config_from_text(runs.read_text(run_id, CONFIG_FILE), f"{RUNS}{run_id}")


def _latest(runs: RunReader, pipeline: str) -> str:
    studies = runs.studies(pipeline)
    for study in studies:
        if Tag.RECOMMENDED_CONFIG in study.tags:
            return study.run_id
    raise StudyError(
        f"no study of {pipeline!r} recommends anything yet; run: prefetch-tune tune {pipeline}"
    )
