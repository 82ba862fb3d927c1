"""Looks at what is kept, and measures nothing: studies, one of them, one run, a report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.errors import EXIT_OK, StudyError
from prefetch_tuning.experiments.report.conclusion import result_of, study_record
from prefetch_tuning.experiments.report.document import write_report
from prefetch_tuning.experiments.report.terminal import (
    print_candidates,
    print_results,
    print_run,
    print_studies,
)
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.record import Record
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.storage.tracking import Tracker


def write_report_of(study: str, store: Store, folder: Path) -> int:
    """Writes the report of a study and prints where."""
    for path in write_report(kept_record(study, store), folder):
        print(path)  # noqa: T201 - the command's output
    return EXIT_OK


def list_studies(store: Store) -> int:
    """Prints what studies there are, the latest first."""
    store.check_exists()
    print_studies(Console(), Tracker(store).studies())
    return EXIT_OK


def show(name: str, store: Store) -> int:
    """Prints one study by its name, or one run by its id."""
    store.check_exists()
    try:
        run = Tracker(store).read(name)
    except StudyError:
        record = kept_record(name, store)
        print_results(Console(), [record])
        print_candidates(Console(), record)
        return EXIT_OK
    print_run(Console(), run)
    return EXIT_OK


def kept_record(study: str, store: Store) -> StudyRecord:
    """Everything that is kept of a study.

    Raises:
        StudyError: there is no such study, or something else made it.
    """
    found = load_study(study, store)
    record = Record(found)
    if not record.is_described:
        raise StudyError(f"study {study!r} was not made by prefetch-tune; there is no report")
    return study_record(found, result_of(record, *record.spent))
