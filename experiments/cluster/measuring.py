"""What a command measures with: this host, or the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.objectives.machine.cores import usable_cores
from prefetch_tuning.objectives.process.runner import TrialRunner

if TYPE_CHECKING:
    from prefetch_tuning.experiments.cluster.connect import Cluster

NEEDS_RAY = (
    "needs Ray: pip install 'prefetch-tuning[cluster]', or in a checkout make setup EXTRAS=cluster"
)


@contextmanager
def generator_nodes(address: str | None) -> Iterator[str | None]:
    """The address of a cluster for generators; "local:N" starts one for the length of the block.

    Raises:
        PipelineError: the number of nodes can't be used.
        UsageError: Ray isn't installed.
    """
    if address is None:
        yield None
        return
    try:
        from prefetch_tuning.pipelines.cluster import local_nodes  # noqa: PLC0415
    except ImportError:
        raise UsageError(f"--generator-cluster {NEEDS_RAY}") from None
    cores = int(usable_cores())
    nodes = local_nodes(address, lambda count: max(cores // count, 1))
    try:
        yield address if nodes is None else nodes.address
    finally:
        if nodes is not None:
            nodes.shutdown()


@contextmanager
def measuring(
    address: str | None, say: Callable[[str], None], *, mixed: bool = False
) -> Iterator[tuple[TrialRunner, Cluster | None]]:
    """A runner for the length of the block, and the cluster if an address is given.

    Args:
        address: as in `connect.connected`; None for this host.
        say: shows a line.
        mixed: also takes in nodes that differ in processor, cores or GPU.

    Raises:
        PipelineError: there is no such cluster.
        StudyError: no node of the cluster can measure.
        UsageError: Ray isn't installed, or a node has other versions than this process.
    """
    if address is None:
        if mixed:
            raise UsageError("--mixed-hosts is about a cluster's nodes; give --cluster, too")
        with TrialRunner() as runner:
            yield runner, None
        return
    try:
        # Ray is an extra, and takes a second to import.
        from prefetch_tuning.experiments.cluster.connect import connected  # noqa: PLC0415
    except ImportError:
        raise UsageError(f"--cluster {NEEDS_RAY}") from None
    with connected(address, say, mixed=mixed) as cluster:
        yield cluster.runner, cluster
