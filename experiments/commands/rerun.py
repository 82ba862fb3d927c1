"""`prefetch-tune rerun`: measure a logged run again and compare the two."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from prefetch_tuning.experiments.cluster.measuring import generator_nodes
from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_generator_cluster,
    add_json,
    add_store,
    add_trial_timeout,
    check_json_file,
    store_of,
)
from prefetch_tuning.experiments.commands.values import number
from prefetch_tuning.experiments.errors import (
    EXIT_OK,
    EXIT_OTHER_DATA,
    EXIT_OUTSIDE_NOISE,
    UsageError,
)
from prefetch_tuning.experiments.settings import TRIAL_TIMEOUT_S, Reruns
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.objectives.process.runner import TrialRunner

if TYPE_CHECKING:
    from prefetch_tuning.experiments.repeat.rerun import Comparison


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "rerun", run, "measure a logged run again and compare the two")
    command.add_argument(
        "run", metavar="RUN_ID", help="MLflow's id of a trial, a round or a whole study"
    )
    command.add_argument(
        "pipeline",
        nargs="?",
        metavar="PIPELINE",
        help="pipeline that the run measured; needed if it isn't built in, unless you give --trust",
    )
    command.add_argument(
        "--trust",
        action="store_true",
        help="run the code that the logged run names, even if it isn't built in",
    )
    command.add_argument(
        "--rounds",
        type=number(Reruns),
        metavar="N",
        help="number of measurements; more make the result more certain; default: 1 for a single "
        "run, and for a study as many as tell differences of 15%% apart, up to 15",
    )
    add_trial_timeout(command)
    add_generator_cluster(command)
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    check_json_file(options.json)
    store = store_of(options)
    with generator_nodes(options.generator_cluster) as cluster:
        return rerun_and_report(
            options.run,
            options.pipeline,
            options.rounds,
            store,
            options.json,
            trust=options.trust,
            cluster=cluster,
            trial_timeout_s=options.trial_timeout_s or TRIAL_TIMEOUT_S,
        )


def rerun_and_report(
    run_id: str,
    named: str | None,
    rounds: int | None,
    store: Store,
    json_file: Path | None,
    *,
    trust: bool,
    cluster: str | None = None,
    trial_timeout_s: float = TRIAL_TIMEOUT_S,
) -> int:
    """Measures a logged run again and prints the old and the new result.

    `cluster` is the address of one whose nodes run the generator. The run doesn't say it: its
    parameters come from a server, which must not decide what this program connects to. If the run
    was as long as usual, a measurement is killed after `trial_timeout_s`.

    Checks the run before it starts anything. Returns 0 for the same data and a rate inside the
    noise, 3 for a rate outside the noise, 4 for other data.
    """
    store.check_tracking_exists()
    # Optuna and MLflow take seconds to import.
    from prefetch_tuning.experiments.repeat.rerun import (
        check_trust,
        compare,
        measure_again,
        noise_of,
        original,
        rounds_for,
    )
    from prefetch_tuning.experiments.report.text import plural
    from prefetch_tuning.experiments.storage.results import write_json
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker
    from prefetch_tuning.experiments.study.tuning import study_tags

    tracker = Tracker(store)
    found = original(tracker, run_id)
    check_trust(found, named, trust=trust)
    if cluster is None and Tag.GENERATOR_CLUSTER in found.tags:
        raise UsageError(
            f"run {run_id}: nodes of a cluster could run its generator; give --generator-cluster"
        )
    deadline_s = found.spec.stop.deadline_s(trial_timeout_s)
    spec = found.spec.model_copy(update={"generator_cluster": cluster, "deadline_s": deadline_s})
    found = found.model_copy(update={"spec": spec})
    rounds = rounds or rounds_for(found)
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    notes.print(
        f"measuring {plural(rounds, 'time')}; that can tell differences above "
        f"{noise_of(found, rounds):.0%} apart from noise"
    )
    with TrialRunner() as runner:
        info = runner.inspect(found.spec.pipeline, found.spec.seed, found.spec.device)
        tags = study_tags(info, str(found.tags.get(Tag.STUDY, "")), found.spec.seed)
        measured, run_ids = measure_again(found, runner, tracker, tags, rounds)
    comparison = compare(found, measured, run_ids, tags)
    print_comparison(Console(), comparison)
    if json_file is not None:
        write_json(comparison, json_file)
    if not comparison.same_data:
        return EXIT_OTHER_DATA
    return EXIT_OK if comparison.inside else EXIT_OUTSIDE_NOISE


def print_comparison(console: Console, found: Comparison) -> None:
    """Prints data, rates and environment of a rerun, and whether they agree with the original."""
    data = "identical" if found.same_data else "DIFFERENT: the first elements or batches differ"
    if found.same_data and not found.same_order:
        data = (
            "the first elements are identical; batches aren't compared, as their order may differ"
        )
    noise = "assumed: the study was not confirmed" if found.assumed_noise else "seen in its study"
    inside = "inside" if found.inside else "OUTSIDE"
    lines = [
        f"data: {data}",
        f"then: {found.then_examples_per_s:,.0f} examples/s, host speed "
        f"{found.then_speed_index:.2f}",
        f"now:  {found.now_examples_per_s:,.0f} examples/s, host speed {found.now_speed_index:.2f}",
        f"ratio: {found.ratio:.2f}x, {inside} the noise of ±{found.noise:.0%} ({noise})",
    ]
    lines += [
        f"environment: {key} was {then}, is now {now}"
        for key, (then, now) in found.differences.items()
    ] or ["environment: no difference"]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
