"""What the other nodes of a cluster offer for the generator: cores, and the way from there."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prefetch_tuning.objectives.checks.elements import first_elements
from prefetch_tuning.objectives.stage_costs import OtherNodes
from prefetch_tuning.pipelines.chain.chunking import rows, stack
from prefetch_tuning.pipelines.cluster import connect, cores_of_nodes
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import GeneratorPipeline

# Blocks of so many elements are sent, so often; the fastest one counts, as nothing disturbed it.
BLOCK, TIMES = 64, 5


def measure_other_nodes(pipeline: GeneratorPipeline, seed: int, address: str) -> OtherNodes | None:
    """The cores of the cluster's other nodes; None if this host is its only one.

    Raises:
        PipelineError: the cluster can't be reached.
    """
    connect(address)
    own = ray.get_runtime_context().get_node_id()
    nodes = cores_of_nodes()
    others = {node: cores for node, cores in nodes.items() if node != own and cores}
    if not others:
        return None
    block = stack(first_elements(pipeline, seed, BLOCK), pipeline.element_spec)
    node = max(others, key=lambda node: others[node])
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    sender: Any = ray.remote(_Sender).options(num_cpus=0, scheduling_strategy=there).remote()
    ray.get(sender.keep.remote(block))
    seconds = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        ray.get(sender.send.remote())
        seconds.append(time.perf_counter() - begin)
    ray.kill(sender)
    cores = sorted((int(count) for count in others.values()), reverse=True)
    each_s = min(seconds) / rows(block, pipeline.element_spec)
    return OtherNodes(
        own_cores=usable_cores(), here=nodes.get(own, 0), cores=cores, sending_s=each_s
    )


class _Sender:
    """An actor on another node, which sends the same block again and again."""

    def keep(self, block: Any) -> None:
        self._block = block

    def send(self) -> Any:
        return self._block
