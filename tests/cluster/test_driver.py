"""Trials and rounds on fake nodes that answer in any order, differ in speed and are lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from prefetch_tuning.experiments.cluster.driver import ClusterHosts
from prefetch_tuning.experiments.cluster.speeds import EVERY, FIRST, Speeds
from prefetch_tuning.experiments.commands.progress import ConsoleSteps
from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.rounds import Confirmer
from prefetch_tuning.experiments.study.search import Search
from prefetch_tuning.experiments.study.trials import Trials
from prefetch_tuning.experiments.study.work import Call, NodeLostError
from prefetch_tuning.experiments.verdict.rates import Rates
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.study.test_study import SETTINGS, Bench
from tests.support.fakes import LIMIT_TERMS, measurement

TRIALS = 12


class FakeNodes:
    """Nodes of given speeds; each answer comes from a random one of those that are busy.

    Attributes:
        calls: the calls that were begun, with their node.
        dies_after: the number of begun calls after which a random busy node is lost.
    """

    def __init__(self, speeds: dict[str, float], seed: int = 0, *dies_after: int) -> None:
        self._speeds, self._random = dict(speeds), random.Random(seed)
        self._busy: dict[str, Call] = {}
        self.calls: list[tuple[str, Call]] = []
        self.dies_after = list(dies_after)
        self.answer: Callable[[TrialSpec], Any] = lambda spec: measurement(1_000.0)

    @property
    def names(self) -> list[str]:
        return list(self._speeds)

    def begin(self, node: str, call: Call) -> None:
        assert node not in self._busy, "a node measures one trial at a time"
        self._busy[node] = call
        self.calls.append((node, call))

    def wait(self) -> tuple[str, Any]:
        node = self._random.choice(sorted(self._busy))
        call = self._busy.pop(node)
        if self.dies_after and len(self.calls) >= self.dies_after[0]:
            self.dies_after.pop(0)
            del self._speeds[node]
            return node, NodeLostError(f"{node} is lost")
        if call.method == "measure_limit":
            return node, LIMIT_TERMS
        found = self.answer(call.arguments[0])
        if isinstance(found, TrialFailure):
            return node, found
        return node, measurement(found.examples_per_s * self._speeds[node])


def reference() -> TrialSpec:
    config = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=2)
    return TrialSpec(pipeline="tests.planted.pipelines:Mapped", config=config)


def hosts(study: PipelineStudy, nodes: FakeNodes, warned: list[str]) -> ClusterHosts:
    def keep(rate: float) -> None:
        study.kept.reference_rate = rate

    def speeds() -> Speeds:
        return Speeds(reference(), study.kept.reference_rate, keep)

    return ClusterHosts(nodes, speeds, warned.append, cores=2.0)


def searched(bench: Bench, nodes: FakeNodes) -> list[str]:
    """Runs a search on the nodes; returns what was said."""
    warned: list[str] = []
    study = bench.study
    steps = ConsoleSteps(Console(quiet=True), "searching", "trial", 0, TRIALS)
    search = Search(study)
    search.begin()
    hosts(study, nodes, warned).carry_out(Trials(study, search, steps, TRIALS))
    return warned


@pytest.mark.parametrize("seed", range(20))
def test_every_trial_is_accounted_for_once_whichever_nodes_are_lost(
    tmp_path: Path, seed: int
) -> None:
    bench = Bench(tmp_path)
    moments = sorted(random.Random(seed).sample(range(1, 20), 2))
    nodes = FakeNodes(dict.fromkeys(("a", "b", "c", "d"), 1.0), seed, *moments)

    warned = searched(bench, nodes)

    trials = bench.study.optuna_study.trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    counts = bench.study.kept.counts
    assert (counts.complete + counts.failed, counts.failed <= 1) == (TRIALS, True)
    numbers = Counter(name.split()[0] for name, _ in bench.tracker.logged)
    assert numbers == {f"#{number:02d}": 1 for number in range(TRIALS)}
    assert len(warned) == 2
    assert all("is lost" in line for line in warned)


def test_a_trial_that_loses_two_nodes_fails(tmp_path: Path) -> None:
    search = Search(Bench(tmp_path).study)
    search.begin()
    piece = search.trial()
    call = next(piece)
    assert piece.throw(NodeLostError("a is lost")) == call

    with pytest.raises(StopIteration) as ended:
        piece.throw(NodeLostError("b is lost"))

    failure = ended.value.value.failure
    assert failure.detail == "2 nodes were lost with it, the last: b is lost"


def test_without_a_node_the_study_ends_and_can_be_resumed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    with pytest.raises(StudyError, match="no node of the cluster is left"):
        searched(bench, FakeNodes({"a": 1.0, "b": 1.0}, 0, 9, 12))
    done = bench.study.kept.counts
    assert 0 < done.complete < TRIALS

    searched(bench, FakeNodes({"c": 1.0}))

    counts = bench.study.kept.counts
    assert counts.complete + counts.failed == TRIALS


def test_rates_of_a_slower_node_are_as_on_the_first_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    nodes = FakeNodes({"fast": 1.0, "slow": 0.5, "quick": 2.0}, seed=1)

    searched(bench, nodes)

    rates = {measured.examples_per_s for measured in bench.study.kept.complete}
    base = bench.study.kept.reference_rate
    assert base in (500.0, 1_000.0, 2_000.0)  # whichever was first
    assert rates == {base}
    assert {node for node, _ in nodes.calls} == {"fast", "slow", "quick"}


def test_a_trial_is_pruned_against_a_rate_of_its_own_node(tmp_path: Path) -> None:
    speeds = Speeds(reference(), 1_000.0, lambda rate: None)
    for _ in range(FIRST):
        assert speeds.begin_reference("slow")
        speeds.end_reference("slow", measurement(250.0))
    spec = reference().model_copy(update={"best_examples_per_s": 4_000.0})

    own = speeds.on("slow", Call.measure(spec))

    assert own.arguments[0].best_examples_per_s == 1_000.0
    found = speeds.relative("slow", measurement(1_000.0))
    assert (found.examples_per_s, found.node, found.node_speed) == (4_000.0, "slow", 0.25)
    assert speeds.relative("slow", LIMIT_TERMS).generator_examples_per_s == 8_000.0


def test_a_node_measures_the_reference_before_its_pieces_and_now_and_then(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    nodes = FakeNodes({"a": 1.0})

    searched(bench, nodes)

    beside = reference().config
    kinds = ["reference" if c.arguments[0].config == beside else "trial" for _, c in nodes.calls]
    assert kinds[: FIRST + 1] == ["reference"] * FIRST + ["trial"]
    # One of the trials may be the reference's configuration, too.
    assert kinds.count("reference") in (FIRST + 2, FIRST + 3)
    assert kinds.count("trial") in (TRIALS, TRIALS - 1)
    assert EVERY == 4


def test_a_node_on_which_the_reference_fails_is_left_out(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    nodes = FakeNodes({"a": 1.0, "broken": 1.0})
    sound = nodes.wait

    def wait() -> tuple[str, Any]:
        node, found = sound()
        broken = TrialFailure(kind="crash", detail="no such file")
        return node, broken if node == "broken" else found

    nodes.wait = wait  # type: ignore[method-assign]

    warned = searched(bench, nodes)

    assert warned == ["broken is left out: the reference failed, crash: no such file"]
    assert bench.study.kept.counts.complete == TRIALS


def test_a_reference_that_fails_everywhere_is_said_with_what_to_do(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    nodes = FakeNodes({"a": 1.0, "b": 1.0})
    nodes.answer = lambda spec: TrialFailure(kind="timeout", detail="after 90 s")

    with pytest.raises(StudyError, match="timeout: after 90 s; check the pipeline, or give"):
        searched(bench, nodes)


def test_an_error_ends_the_running_trials_as_interrupted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    nodes = FakeNodes({"a": 1.0, "b": 1.0})
    sound = nodes.wait

    def wait() -> tuple[str, Any]:
        if len(nodes.calls) > 2 * FIRST + 4:
            raise KeyboardInterrupt
        return sound()

    nodes.wait = wait  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        searched(bench, nodes)

    counts = bench.study.kept.counts
    assert counts.complete >= 2
    assert counts.complete + 2 == len(bench.study.optuna_study.trials)


CANDIDATES = {
    "tuned-1": PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=2),
    "autotune": PipelineConfig.autotune(8),
    "no_prefetch": PipelineConfig.no_prefetch(8),
}


def confirmed(bench: Bench, nodes: FakeNodes) -> Confirmer:
    study = bench.open(SETTINGS.model_copy(update={"rounds": 9}))
    warned: list[str] = []
    study.hosts = hosts(study, nodes, warned)
    study.kept.nominate(CANDIDATES)
    confirmer = Confirmer(study)
    confirmer.run(ConsoleSteps(Console(quiet=True), "confirming", "round", 0, 9))
    bench.study = study
    return confirmer


@pytest.mark.parametrize("seed", range(8))
def test_a_round_is_measured_whole_on_one_node_even_if_another_is_lost(
    tmp_path: Path, seed: int
) -> None:
    bench = Bench(tmp_path)
    moment = random.Random(seed).randrange(8, 40)
    nodes = FakeNodes({"a": 1.0, "b": 0.8, "c": 1.2}, seed, moment)
    noise = random.Random(seed)
    nodes.answer = lambda spec: measurement(noise.uniform(900.0, 1_100.0))

    confirmed(bench, nodes)

    rounds = bench.study.kept.rounds
    assert len(rounds) >= 9
    for measured in rounds:
        assert len({one.node for one in measured.values()}) == 1
    # The runs of a round that was cut off don't count; all others are a round's.
    counted = [m.mlflow_run_id for measured in rounds for m in measured.values()]
    assert len(set(counted)) == len(counted)
    assert not set(counted) & set(bench.tracker.throttled)
    names = [name for name, _ in bench.tracker.logged if "limit" not in name]
    lost = len(names) - len(counted)
    assert 0 <= lost <= len(CANDIDATES)


@pytest.mark.parametrize(("count", "rounds"), [(4, 9), (5, 9), (4, 24), (10, 20)])
def test_equal_candidates_on_slow_nodes_are_rarely_called_different(
    count: int, rounds: int
) -> None:
    """A fifth of the nodes is slow, each in its own way; two equal candidates, 40 times."""
    wrong = 0
    for seed in range(40):
        rng = random.Random(seed)
        nodes = [f"node-{number}" for number in range(count)]
        # Against the reference, a slow node treats two configurations differently.
        bias = {node: rng.gauss(0.0, 0.02) for node in nodes}
        slow = {node: 0.5 if rng.random() < 0.2 else 1.0 for node in nodes}
        ran_on = [nodes[number % count] for number in range(rounds)]
        own = Rates(
            (1_000.0 * slow[n] * (1 + bias[n]) * rng.gauss(1.0, 0.05) for n in ran_on), ran_on
        )
        other = Rates((1_000.0 * slow[n] * rng.gauss(1.0, 0.05) for n in ran_on), ran_on)
        wrong += ratio_to(own, other).verdict != "no significant difference"
    assert wrong <= 5
