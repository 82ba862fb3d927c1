"""Reads a `config.json`: from a file, or as a run's artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.pipelines.config import ConfigError, PipelineConfig

# A run's artifact with its configuration.
CONFIG_FILE = "config.json"


def config_from_file(path: Path) -> PipelineConfig:
    """The configuration in a file.

    Raises:
        StudyError: the file cannot be read.
        ConfigError: it has no valid configuration.
    """
    try:
        return config_from_text(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise StudyError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} does not contain JSON") from None


def config_from_text(text: str, where: str) -> PipelineConfig:
    """Checks the text against the schema. It may come from a server, so it is only data.

    Raises:
        ConfigError: it is not a valid configuration; the message begins with `where`.
    """
    try:
        # Unlike `json`, it refuses JSON that is nested without end.
        document = TypeAdapter(Any).validate_json(text)
    except ValueError:
        raise ConfigError(f"{where} does not contain JSON") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{where} does not contain a configuration")
    try:
        return PipelineConfig.from_params(document)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
