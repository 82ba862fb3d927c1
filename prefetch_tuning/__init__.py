"""Finds, by experiment, the tf.data settings that feed a model fastest from a Python generator.

Users import every public name from here, whichever file defines it. A name's module is imported
when the name is accessed, so `import prefetch_tuning` loads neither TensorFlow nor Optuna nor
MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefetch_tuning.experiments.api import Tuned as Tuned
    from prefetch_tuning.experiments.api import tune as tune
    from prefetch_tuning.experiments.errors import StoreError as StoreError
    from prefetch_tuning.experiments.errors import StudyError as StudyError
    from prefetch_tuning.experiments.errors import UsageError as UsageError
    from prefetch_tuning.experiments.load_config import load_config as load_config
    from prefetch_tuning.objectives.monitor.callback import InputMonitor as InputMonitor
    from prefetch_tuning.objectives.monitor.watched import watch as watch
    from prefetch_tuning.objectives.process.server import WorkerError as WorkerError
    from prefetch_tuning.pipelines.catalog import load as load
    from prefetch_tuning.pipelines.chain.build import build_dataset as build_dataset
    from prefetch_tuning.pipelines.chain.transformations import Chain as Chain
    from prefetch_tuning.pipelines.config import ConfigError as ConfigError
    from prefetch_tuning.pipelines.config import PipelineConfig as PipelineConfig
    from prefetch_tuning.pipelines.source import GeneratorPipeline as GeneratorPipeline
    from prefetch_tuning.pipelines.source import PipelineError as PipelineError

_HOMES = {
    "Chain": "pipelines.chain.transformations",
    "ConfigError": "pipelines.config",
    "GeneratorPipeline": "pipelines.source",
    "InputMonitor": "objectives.monitor.callback",
    "PipelineConfig": "pipelines.config",
    "PipelineError": "pipelines.source",
    "StoreError": "experiments.errors",
    "StudyError": "experiments.errors",
    "Tuned": "experiments.api",
    "UsageError": "experiments.errors",
    "WorkerError": "objectives.process.server",
    "build_dataset": "pipelines.chain.build",
    "load": "pipelines.catalog",
    "load_config": "experiments.load_config",
    "tune": "experiments.api",
    "watch": "objectives.monitor.watched",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
