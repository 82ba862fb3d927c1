"""Measures finished studies and their trials again with `prefetch-tune rerun`, as Markdown tables.

Run where the studies were made: .venv/bin/python benchmarks/studies/reruns.py STUDY [STUDY ...]
It takes ten complete trials, the same number from each study, spread over the study's search, and
then the recommendation of each study.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import chain, zip_longest
from pathlib import Path

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.studies import load_study

RERUNS = 10


def chosen(study: str, store: Store, count: int) -> list[str]:
    """The run ids of `count` complete trials of a study, spread from its first to its last."""
    rows = StudyAttributes(load_study(study, store)).rows
    runs = [row.measured.mlflow_run_id for row in rows if row.state == "complete" and row.measured]
    step = max(len(runs) / count, 1.0)
    return [runs[int(index * step)] for index in range(min(count, len(runs)))]


def rerun(run_id: str) -> tuple[str, bool, bool]:
    """Measures a run again; gives a table row and whether the data and the rate were as before."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rerun.json")
        command = [str(Path(sys.executable).parent / "prefetch-tune"), "rerun", run_id]
        done = subprocess.run(
            [*command, "--json", str(file)], capture_output=True, text=True, check=False
        )
        if not file.exists():
            return (
                f"| `{run_id[:8]}` | {done.stderr.strip()} | | | | | | {done.returncode} |",
                False,
                False,
            )
        found = json.loads(file.read_text(encoding="utf-8"))
    row = (
        f"| `{run_id[:8]}` | {'identical' if found['same_data'] else 'DIFFERENT'} "
        f"| {found['then_examples_per_s']:,.0f} | {found['now_examples_per_s']:,.0f} "
        f"| {found['ratio']:.2f}x | ±{found['noise']:.0%} "
        f"| {'inside' if found['inside'] else 'OUTSIDE'} | {done.returncode} |"
    )
    return row, found["same_data"], found["inside"]


def main(studies: list[str]) -> None:
    """Reruns ten trials, then the recommendation of each study."""
    store = Store.choose(Path.cwd(), None, None)
    each = -(-RERUNS // len(studies))
    in_turn = chain.from_iterable(zip_longest(*(chosen(study, store, each) for study in studies)))
    runs = [run for run in in_turn if run][:RERUNS]
    show("trial", runs)
    show("study", [StudyAttributes(load_study(study, store)).run_id or "" for study in studies])


def show(what: str, runs: list[str]) -> None:
    """Reruns these runs one after another and prints a table of them with the counts below."""
    print(f"| {what} | data | then | now | ratio | can tell apart | | exit code |")
    print("|---|---|---:|---:|---:|---:|---|---:|")
    same = inside = 0
    for run_id in runs:
        row, same_data, is_inside = rerun(run_id)
        print(row, flush=True)
        same, inside = same + same_data, inside + is_inside
    print(f"\n{same} of {len(runs)} identical, {inside} of {len(runs)} inside the noise.\n")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("error: no study given; `prefetch-tune studies` lists them")
    try:
        main(sys.argv[1:])
    except StudyError as error:
        sys.exit(f"error: {error}")
