"""Connects to a Ray cluster, or makes one of several nodes on this host."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import ray

from prefetch_tuning.experiments.cluster.driver import ClusterHosts
from prefetch_tuning.experiments.cluster.nodes import RayNodes
from prefetch_tuning.experiments.cluster.runner import ClusterRunner
from prefetch_tuning.experiments.cluster.speeds import Speeds
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.pipelines.cluster import (
    NOT_SHIPPED,
    local_nodes,
    reach,
    shared_cores,
    shipped,
)


class Cluster:
    """The nodes of a cluster that this process is connected to.

    Attributes:
        nodes: the nodes that measure.
        runner: makes calls on any of them, one at a time.
    """

    def __init__(self, nodes: RayNodes, warn: Callable[[str], None]) -> None:
        self.nodes = nodes
        self.runner = ClusterRunner(nodes)
        self._warn = warn

    @property
    def described(self) -> str:
        """The nodes in words, as a study's host."""
        classes = sorted({info.node_class for info in self.nodes.infos.values()})
        return f"cluster of {' and '.join(classes)}"

    def hosts(self, study: PipelineStudy) -> ClusterHosts:
        """Carries out a study's trials and rounds on all nodes."""

        def keep(rate: float) -> None:
            study.kept.reference_rate = rate

        def speeds() -> Speeds:  # the reference is known after the diagnosis
            return Speeds(study.reference, study.kept.reference_rate, keep)

        cores = min(info.cores for info in self.nodes.infos.values())
        return ClusterHosts(self.nodes, speeds, self._warn, cores)


@contextlib.contextmanager
def connected(address: str, say: Callable[[str], None], *, mixed: bool) -> Iterator[Cluster]:
    """Connects for the length of the block; nothing that it started outlives the block.

    Args:
        address: "auto", "ray://HOST:PORT", "HOST:PORT" or "local:N".
        say: shows a line.
        mixed: also takes in nodes that differ in processor, cores or GPU.

    Raises:
        PipelineError: there is no such cluster.
        StudyError: no node of it can measure.
        UsageError: a node has other versions than this process.
    """
    with _ray(address, say):
        nodes = RayNodes(say, mixed=mixed)
        count = len(nodes.names)
        say(f"measuring on {count} node{'s' if count > 1 else ''}: {', '.join(nodes.names)}")
        yield Cluster(nodes, say)


@contextlib.contextmanager
def _ray(address: str, say: Callable[[str], None]) -> Iterator[None]:
    # Each local node has all cores, because the host's lock lets trials take turns.
    local = local_nodes(address, lambda _: shared_cores(1))
    if local is None:
        say(
            f"shipping {Path.cwd()} to the nodes, without what .gitignore excludes and without "
            f"{', '.join(NOT_SHIPPED)}"
        )
    try:
        if local is None:
            reach(address, runtime_env=shipped())
        else:
            reach(local.address)
        yield
    finally:
        ray.shutdown()
        if local is not None:
            local.shutdown()
