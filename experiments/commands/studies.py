"""`prefetch-tune studies`: list all studies."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_store,
    store_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK, StudyError
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.schema import StudyAttr, Tag
from prefetch_tuning.pipelines.printable import printable

if TYPE_CHECKING:  # MLflow takes seconds to import
    from prefetch_tuning.experiments.storage.runs.reader import LoggedRun

UNREADABLE = {"trials": "-", "verdict": "unreadable", "recommended": None}
HEADINGS = ("study", "pipeline", "trials", "verdict", "recommended", "begun")
Row = tuple[str, ...]


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    add_store(add_command(commands, "studies", run, "list all studies"))


def run(options: argparse.Namespace) -> int:
    store = store_of(options)
    store.check_tracking_exists()
    # A server has the studies of all its users, while Optuna's storage may be this user's only.
    rows = _of_a_server(store) if store.artifacts is None else _of_optuna(store)
    print_rows(Console(), "Studies", HEADINGS, list(rows))
    return EXIT_OK


def _of_optuna(store: Store) -> Iterator[Row]:
    """A row per study; without MLflow, which takes seconds to import."""
    from prefetch_tuning.experiments.storage.studies import all_studies

    for study in all_studies(store):
        attrs = study.user_attrs
        if StudyAttr.INFO not in attrs:
            continue  # another program's
        name = study.study_name
        try:
            kept = attrs.get(StudyAttr.SUMMARY) or _summary(name, store)
        except (StudyError, KeyError):
            kept = UNREADABLE  # another version's, or killed while it began
        cells = (
            name,
            attrs[StudyAttr.INFO]["name"],
            kept["trials"],
            kept["verdict"],
            kept["recommended"] or "-",
        )
        yield *(printable(str(cell)) for cell in cells), _time(study.datetime_start)


def _summary(name: str, store: Store) -> dict[str, Any]:
    """The summary of a study that an earlier version made, or that was killed."""
    from prefetch_tuning.experiments.report.conclusion import kept_record
    from prefetch_tuning.experiments.storage.results import Summary

    return Summary.of(kept_record(name, store).result).model_dump()


def _of_a_server(store: Store) -> Iterable[Row]:
    from prefetch_tuning.experiments.storage.results import TrialCounts
    from prefetch_tuning.experiments.storage.runs.reader import RunReader

    def row(run: LoggedRun) -> Row:
        trials = sum(run.metrics.get(f"trials/{state}", 0.0) for state in TrialCounts.model_fields)
        return (
            run.name,
            run.tags.get(Tag.PIPELINE, "?"),
            f"{trials:.0f}",
            run.tags.get(Tag.VERDICT, "none"),
            run.tags.get(Tag.RECOMMENDED_CONFIG, "-"),
            _time(datetime.fromtimestamp(run.started_s)),
        )

    return [row(run) for run in RunReader(store).studies()]


def _time(begun: datetime | None) -> str:
    return "-" if begun is None else begun.strftime("%Y-%m-%d %H:%M")
