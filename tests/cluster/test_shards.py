"""Shards on the nodes of a local Ray cluster: the same batches, also if a node is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import psutil
import pytest

ray = pytest.importorskip("ray")

from prefetch_tuning.pipelines import cluster as connection  # noqa: E402
from prefetch_tuning.pipelines.chain import monitor  # noqa: E402
from prefetch_tuning.pipelines.chain.build import build_dataset  # noqa: E402
from prefetch_tuning.pipelines.chain.cluster_shards import ClusterShards  # noqa: E402
from prefetch_tuning.pipelines.chain.processes import GeneratorProcesses  # noqa: E402
from prefetch_tuning.pipelines.config import PipelineConfig  # noqa: E402
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError  # noqa: E402
from tests.planted.pipelines import (  # noqa: E402
    FiniteShards,
    Sharded,
    WaitingShards,
    WideShards,
)

# Up to seven processes import TensorFlow at once, which would hold other tests up.
pytestmark = pytest.mark.timing
FOUR = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1, generator_workers=4)


@pytest.fixture
def local() -> Iterator[Any]:
    """Starts nodes on this host and connects to them."""
    started = []

    def start(count: int, cores: int = 1) -> Any:
        nodes = connection.local_nodes(f"local:{count}", lambda _: cores)
        assert nodes is not None
        started.append(nodes)
        connection.connect(nodes.address)
        return nodes

    yield start
    ray.shutdown()
    for nodes in started:
        nodes.shutdown()


def elements(shards: Any, count: int) -> np.ndarray:
    """The first features of a run."""
    found: list[np.ndarray] = []
    for block in shards.run():
        found.extend(block[0][:, :4])
        if len(found) >= count:
            break
    return np.stack(found[:count])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_batches_are_those_of_local_processes(
    local: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(monitor, "usable_cores", lambda: 1.0)
    expected = build_dataset(Sharded(), FOUR, seed=3)
    local(count, cores=4 // count)
    found = build_dataset(Sharded(), FOUR, seed=3, cluster="auto")

    for (own, _), (other, _) in zip(expected.take(20), found.take(20), strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("pipeline", [WaitingShards, WideShards], ids=["small", "large"])
def test_a_shard_goes_on_elsewhere_if_its_node_is_killed(
    local: Any, pipeline: type[GeneratorPipeline]
) -> None:
    """Ray keeps large blocks on the node that made them, so they are lost with it."""
    nodes = local(4)
    nodes.add_node(num_cpus=3, object_store_memory=connection.OBJECT_STORE_BYTES)
    nodes.wait_for_nodes()
    shards = ClusterShards(pipeline(), 3, FOUR, "auto")
    victim = next(node for node in nodes.worker_nodes if node.node_id in shards.nodes)
    found: list[np.ndarray] = []
    moved = 0

    for block in shards.run():
        found.extend(block[0][:, :4])
        if len(found) == 64:
            for process in psutil.process_iter(["name", "cmdline"]):
                if process.info["name"] == "raylet" and any(
                    victim.node_id in part for part in process.info["cmdline"] or []
                ):
                    process.kill()
            nodes.remove_node(victim, allow_graceful=False)
        moved += victim.node_id not in shards.nodes
        if moved == 5 or len(found) > 20_000:
            break

    assert moved == 5
    expected = elements(GeneratorProcesses(pipeline(), 3, FOUR, "forkserver"), len(found))
    np.testing.assert_array_equal(np.stack(found), expected)


def test_a_finite_generator_is_run_again(local: Any) -> None:
    local(2)
    two = FOUR.model_copy(update={"generator_workers": 2})
    shards = ClusterShards(FiniteShards(), 0, two, "auto")
    own = GeneratorProcesses(FiniteShards(), 0, two, "forkserver")

    for _ in range(2):
        expected, found = [np.concatenate([b[0] for b in s.run()]) for s in (own, shards)]
        np.testing.assert_array_equal(found, expected)


def test_a_run_that_is_abandoned_does_not_hold_up_the_next_one(local: Any) -> None:
    local(2)
    two = FOUR.model_copy(update={"generator_workers": 2})
    shards = ClusterShards(Sharded(), 0, two, "auto")

    first = elements(shards, 40)

    np.testing.assert_array_equal(elements(shards, 40), first)


def test_more_shards_than_free_cores_are_refused_before_any_is_read(local: Any) -> None:
    local(2)
    with pytest.raises(PipelineError, match="the cluster has 2 free cores for 4 more"):
        ClusterShards(Sharded(), 0, FOUR, "auto")


def test_an_error_of_the_generator_is_raised_here(local: Any) -> None:
    local(1)
    one = FOUR.model_copy(update={"generator_workers": 1})
    shards = ClusterShards(FiniteShards(fails=True), 0, one, "auto")
    with pytest.raises(ValueError, match="planted"):
        list(shards.run())


def test_nodes_beyond_the_allowed_number_are_refused() -> None:
    for address in ("local:0", "local:x", "local:17"):
        with pytest.raises(PipelineError, match="give local:N with N from 1 to 16"):
            connection.connect(address)


def test_four_nodes_feed_a_waiting_generator_nearly_four_times_as_fast(local: Any) -> None:
    local(4)

    def rate(workers: int) -> float:
        config = FOUR.model_copy(update={"generator_workers": workers})
        shards = ClusterShards(WaitingShards(), 0, config, "auto")
        blocks = shards.run()
        list(islice(blocks, 2))
        begin, count = time.perf_counter(), 0
        for block in blocks:
            count += len(block[0])
            if time.perf_counter() - begin > 4.0:
                break
        shards.close()
        return count / (time.perf_counter() - begin)

    assert rate(4) / rate(1) >= 3.4
