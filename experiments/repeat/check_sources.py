"""Finds the configuration that a check is about: in a file, a logged run or a study."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.storage.config_file import config_from_file
from prefetch_tuning.experiments.storage.locations import RUNS, Store
from prefetch_tuning.objectives.spec import Device, StopRule
from prefetch_tuning.pipelines.config import ConfigError, PipelineConfig

SUFFIX = ".json"


class Source(BaseModel):
    """A configuration and where it was measured.

    Attributes:
        said: how messages name it.
        target: the pipeline that a record names; None for a file, which names none.
        seed, device: of the record.
        stop: how long the record's measurements lasted, which is longer for a generator that
            pauses; None for a file.
        trial_timeout_s: after how long the study killed a trial; None for a file or a run.
        chain: a script's chain, as it was tuned; empty for any other pipeline.
    """

    model_config = ConfigDict(frozen=True)

    said: str
    config: PipelineConfig
    target: str | None = None
    seed: int = 0
    device: Device = "auto"
    stop: StopRule | None = None
    trial_timeout_s: float | None = None
    chain: str = ""


def is_file(named: str) -> bool:
    """Whether a user means a file, which needs no store."""
    return not named.startswith(RUNS) and (named.endswith(SUFFIX) or Path(named).is_file())


def from_file(named: str) -> Source:
    """The configuration in a file.

    Raises:
        StudyError: the file cannot be read.
        UsageError: it has no valid configuration.
    """
    try:
        return Source(said=named, config=config_from_file(Path(named)))
    except ConfigError as error:
        raise UsageError(f"{error}") from None


def from_store(named: str, store: Store) -> Source:
    """The configuration of a run (`runs:/RUN_ID`), or what the study of this name recommends.

    Raises:
        StoreError: the store cannot be read.
        StudyError: there is no such run or study, or it has no configuration to check.
        UsageError: there is no store, so the name may be that of a file that doesn't exist.
    """
    if named.startswith(RUNS):
        return _from_run(named, store)
    if store.folder is not None and not store.folder.is_dir():
        raise UsageError(
            f"{named!r} is neither a file here nor a study, because there is no {store.folder}; "
            "give a config.json, or run this where you ran prefetch-tune tune"
        )
    # Optuna takes seconds to import.
    from prefetch_tuning.experiments.report.conclusion import result_of  # noqa: PLC0415
    from prefetch_tuning.experiments.storage.attributes import StudyAttributes  # noqa: PLC0415
    from prefetch_tuning.experiments.storage.studies import load_study  # noqa: PLC0415

    kept = StudyAttributes(load_study(named, store))
    if not kept.is_ours:
        raise StudyError(f"study {named!r} was not created by prefetch-tune")
    recommended = result_of(kept, *kept.spent).recommended
    if recommended is None:
        raise StudyError(
            f"study {named!r} recommends nothing to check; run: prefetch-tune confirm {named}"
        )
    return Source(
        said=f"study {named}",
        config=recommended.config,
        target=kept.info.target,
        seed=kept.settings.seed,
        device=kept.settings.device,
        stop=kept.stop_rule(recommended.config.batch_size),
        trial_timeout_s=kept.settings.trial_timeout_s,
        chain=kept.info.chain,
    )


def _from_run(named: str, store: Store) -> Source:
    store.check_tracking_exists()
    # MLflow takes seconds to import.
    from prefetch_tuning.experiments.repeat.rerun import original  # noqa: PLC0415
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker  # noqa: PLC0415

    found = original(Tracker(store), named.removeprefix(RUNS))
    return Source(
        said=f"run {found.run_id}",
        config=found.spec.config,
        target=found.spec.pipeline,
        seed=found.spec.seed,
        device=found.spec.device,
        stop=found.spec.stop,
    )
