"""Measures a logged run again from its data in MLflow alone, and compares the two measurements."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.storage.runs.reader import LoggedRun
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.objectives.measurement import Digest, Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import SpecError, TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.target import Target

# Run-to-run noise (CV) to assume for a study without a confirmation: that of a shared machine.
ASSUMED_CV = 0.1
# A rerun of a study's recommendation takes as many rounds as tell this share apart, up to the most.
TELLS_APART, MOST_ROUNDS = 0.15, 15
# Environment tags that explain why the rates of two measurements may differ.
ENVIRONMENT = ("host", "host.fingerprint", Tag.DEVICE, Tag.SOURCE_DIGEST)
ENVIRONMENT_PREFIXES = ("version.", "git.")


class Original(BaseModel):
    """A logged run, read from MLflow and checked.

    Attributes:
        examples_per_s, speed_index: medians over `runs` runs. That is one run, or the rounds of a
            study's recommended configuration.
        windows: number of counted windows.
        cv: noise of one measurement in its study, as a share; None if the study has no
            confirmation.
    """

    run_id: str
    name: str
    parent_id: str
    spec: TrialSpec
    examples_per_s: float
    speed_index: float
    runs: int
    windows: int
    digest: Digest
    tags: dict[str, str]
    cv: float | None


class Comparison(BaseModel):
    """The original measurement compared with the new one.

    Attributes:
        same_order: False if the order of the elements may differ, so batches weren't compared.
        then_speed_index, now_speed_index: the host's own speed, to explain a difference.
        ratio: new rate over original rate.
        noise: how far from 1 the ratio may be, as a share, in 95 of 100 reruns.
        differences: tag to (original value, new value), for each tag that differs.
    """

    rerun_of: str
    run_ids: list[str]
    same_data: bool
    same_order: bool = True
    then_examples_per_s: float
    now_examples_per_s: float
    then_speed_index: float
    now_speed_index: float
    ratio: float
    noise: float
    assumed_noise: bool
    inside: bool
    differences: dict[str, tuple[str, str]]


def original(tracker: Tracker, run_id: str) -> Original:
    """Reads and checks a trial, a confirmation round, a rerun, or a whole study.

    Raises:
        StudyError: there is no such run, it has no measurement to repeat, or its parameters are
            not valid.
    """
    run = tracker.read(run_id)
    kind = run.tags.get(Tag.KIND)
    if kind == Kind.STUDY:
        runs = _recommended(tracker, run)
        parent = run
    elif kind in (Kind.TRIAL, Kind.CONFIRMATION, Kind.RERUN):
        runs = [run]
        parent = tracker.read(run.tags.get(Tag.PARENT, ""))
    else:
        raise StudyError(f"run {run_id!r} isn't a study, trial or round of prefetch-tune")
    first = runs[0]
    if any("throughput/examples_per_s" not in r.metrics for r in runs):
        why = first.tags.get(Tag.FAILURE_KIND, "not finished")
        raise StudyError(f"run {run_id!r} measured nothing ({why}), so there is nothing to compare")
    try:
        spec = TrialSpec.from_params(_params_of(first))
    except SpecError as error:
        raise StudyError(f"run {first.run_id!r} cannot be rebuilt: {error}") from None
    return Original(
        run_id=run_id,
        name=run.name,
        parent_id=parent.run_id,
        spec=spec,
        examples_per_s=_median(runs, "throughput/examples_per_s"),
        speed_index=_median(runs, "host/speed_index"),
        runs=len(runs),
        windows=int(_median(runs, "measurement/windows")),
        digest=_digest(first),
        tags=dict(first.tags),
        cv=_cv(tracker.children(parent.run_id)),
    )


def check_trust(found: Original, named: str | None, *, trust: bool) -> None:
    """Checks that code from outside this project runs only if the user says so.

    A run names the code to import, and anyone could have logged it.

    Raises:
        UsageError: the user named a different pipeline, or neither named it nor gave --trust.
    """
    what, command = f"run {found.run_id!r}", f"prefetch-tune rerun {found.run_id}"
    check_trusted(found.spec.pipeline, named, what, command, trust=trust)


def check_trusted(target: str, named: str | None, what: str, command: str, *, trust: bool) -> None:
    """The same for any record: `what` names it, and the pipeline may follow `command`."""
    if named is not None and catalog.resolve(named) != target:
        raise UsageError(f"{what} measured {target!r}, not {named!r}")
    if (
        named is not None
        or trust
        or catalog.built_in_name(str(Target.parse(target).without_model_options))
    ):
        return
    raise UsageError(
        f"{what} would import {target!r}, which isn't built in; to allow it, use "
        f"{command} {target}, or give --trust"
    )


def same_windows(found: Original) -> TrialSpec:
    """The spec with a stop rule that counts as many windows as the original did."""
    rule = found.spec.stop
    exact = {"min_windows": max(found.windows, 3), "max_s": rule.window_s}
    return found.spec.model_copy(update={"stop": rule.model_copy(update=exact)})


def measure_again(
    found: Original,
    runner: TrialRunner,
    tracker: Tracker,
    tags: Mapping[str, str],
    rounds: int,
) -> tuple[list[Measurement], list[str]]:
    """Measures it `rounds` times and logs each as a run tagged `rerun_of`.

    Raises:
        StudyError: a rerun failed although the original did not.
    """
    spec = same_windows(found)
    measured: list[Measurement] = []
    run_ids: list[str] = []
    for number in range(rounds):
        began = time.time()
        result = runner.measure(spec)
        state = "failed" if isinstance(result, TrialFailure) else "complete"
        own = {**tags, Tag.KIND: Kind.RERUN, Tag.RERUN_OF: found.run_id, Tag.ROUND: str(number)}
        name = f"rerun of {found.name}"
        run_ids.append(tracker.log_trial(found.parent_id, name, spec, result, state, own, began))
        if isinstance(result, TrialFailure):
            raise StudyError(f"the rerun failed, {result.kind}: {result.detail}")
        measured.append(result)
    return measured, run_ids


def compare(
    found: Original,
    measured: Sequence[Measurement],
    run_ids: Sequence[str],
    tags: Mapping[str, str],
) -> Comparison:
    """Compares the new measurements with the original.

    The rates aren't divided by the host's own speed, because that makes them noisier: over the
    candidates of three studies the mean CV was 6.1% raw and 7.1% divided
    (`benchmarks/studies/speed_index.py`).
    """
    now = statistics.median(m.examples_per_s for m in measured)
    index = statistics.median(m.host_speed_index for m in measured)
    ratio = now / found.examples_per_s
    noise = noise_of(found, len(measured))
    return Comparison(
        rerun_of=found.run_id,
        run_ids=list(run_ids),
        same_data=all(m.digest.agrees_with(found.digest) for m in measured),
        same_order=not found.spec.config.reorder,
        then_examples_per_s=found.examples_per_s,
        now_examples_per_s=now,
        then_speed_index=found.speed_index,
        now_speed_index=index,
        ratio=ratio,
        noise=noise,
        assumed_noise=found.cv is None,
        inside=abs(math.log(ratio)) <= math.log1p(noise),
        differences=differences(found.tags, tags),
    )


def noise_of(found: Original, rounds: int) -> float:
    """How far from 1 the ratio of that many new runs may be, as a share, in 95 of 100 reruns.

    A median of n runs varies by about 1.25 CV / sqrt(n), a single run by CV. The noise is 1.96
    times the combined variation of both sides.
    """
    cv = ASSUMED_CV if found.cv is None else found.cv
    spread = sum((1.0 if n == 1 else 1.25) ** 2 / n for n in (found.runs, rounds))
    return 1.96 * cv * math.sqrt(spread)


def rounds_for(found: Original) -> int:
    """The default number of rounds: one for a single run, more for a study's recommendation."""
    if found.runs == 1:
        return 1
    enough = (n for n in range(1, MOST_ROUNDS) if noise_of(found, n) <= TELLS_APART)
    return next(enough, MOST_ROUNDS)


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Environment tags whose values differ, with both values."""
    keys = [
        key
        for key in sorted({*then, *now})
        if key in ENVIRONMENT or key.startswith(ENVIRONMENT_PREFIXES)
    ]
    pairs = {key: (then.get(key, "unknown"), now.get(key, "unknown")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _recommended(tracker: Tracker, study: LoggedRun) -> list[LoggedRun]:
    """The rounds of a study's recommended configuration, or without rounds its best trial."""
    tags = study.tags
    rounds = [
        child
        for child in tracker.children(study.run_id)
        if child.tags.get(Tag.KIND) == Kind.CONFIRMATION
        and child.tags.get(Tag.CANDIDATE) == tags.get(Tag.RECOMMENDED)
        and child.tags.get(Tag.STATE) == "complete"
    ]
    if rounds:
        latest = rounds[-1].params  # of the latest confirmation, if there are several
        return [r for r in rounds if r.params == latest]
    if Tag.BEST_RUN in tags:
        return [tracker.read(tags[Tag.BEST_RUN])]
    raise StudyError(f"study {study.name!r} has no result to measure again")


def _params_of(run: LoggedRun) -> dict[str, str]:
    """A run's parameters, with the pipeline's current name."""
    params = dict(run.params)
    if "pipeline" in params:
        params["pipeline"] = catalog.renamed(params["pipeline"], run.tags.get(Tag.VERSION))
    return params


def _median(runs: Sequence[LoggedRun], metric: str) -> float:
    return float(statistics.median(run.metrics[metric] for run in runs))


def _digest(run: LoggedRun) -> Digest:
    tags = run.tags
    return Digest(
        elements=tags.get(Tag.ELEMENTS_DIGEST, ""), batches=tags.get(Tag.BATCHES_DIGEST, "")
    )


def _cv(children: Sequence[LoggedRun]) -> float | None:
    """Noise of one measurement, as a share; None without a confirmation.

    It is the larger of two: how far the rounds of all candidates are from their medians, and how
    far the trials of the same configurations, some minutes earlier, are from these medians.
    """
    rates: dict[tuple[str | None, ...], list[float]] = {}
    earlier: list[tuple[tuple[str | None, ...], float]] = []
    for run in children:
        rate = run.metrics.get("throughput/examples_per_s")
        if rate is None or run.tags.get(Tag.STATE) != "complete":
            continue
        config = tuple(run.params.get(name) for name in PipelineConfig.model_fields)
        if run.tags.get(Tag.KIND) == Kind.CONFIRMATION:
            rates.setdefault(config, []).append(rate)
        elif run.tags.get(Tag.KIND) == Kind.TRIAL:
            earlier.append((config, rate))
    several = {config: found for config, found in rates.items() if len(found) > 1}
    if not several:
        return None
    medians = {config: statistics.median(found) for config, found in several.items()}
    # With n values, the squares of the deviations from their own median are too small by
    # n / (n - 1).
    rounds = [
        math.log(rate / medians[config]) * math.sqrt(len(found) / (len(found) - 1))
        for config, found in several.items()
        for rate in found
    ]
    trials = [math.log(rate / medians[config]) for config, rate in earlier if config in medians]
    return max(_root_mean_square(rounds), _root_mean_square(trials))


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(statistics.fmean(value**2 for value in values)) if values else 0.0
