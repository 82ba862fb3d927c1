"""What a command measures with: this host, or the nodes of a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.objectives.process.runner import TrialRunner

if TYPE_CHECKING:
    from prefetch_tuning.experiments.cluster.connect import Cluster
    from prefetch_tuning.experiments.storage.locations import Store
    from prefetch_tuning.experiments.study.progress import Progress
    from prefetch_tuning.experiments.study.tuning import Tuning

NEEDS_RAY = (
    "needs Ray: pip install 'prefetch-tuning[cluster]', or in a checkout make setup EXTRAS=cluster"
)


@dataclass(frozen=True)
class Measuring:
    """What carries out trials, and what runs the generator.

    Attributes:
        runner: measures; on a node of the cluster if there is one.
        cluster: the nodes that carry out trials; None for this host.
        generator_cluster: address of the nodes that run the generator; None for this host.
    """

    runner: TrialRunner
    cluster: Cluster | None
    generator_cluster: str | None

    def tuning(self, store: Store, progress: Progress) -> Tuning:
        """A tuning run that measures with it."""
        # It imports Optuna and MLflow, which take seconds; the runner starts meanwhile.
        from prefetch_tuning.experiments.study.tuning import Tuning  # noqa: PLC0415

        return Tuning(store, self.runner, progress, self.cluster, self.generator_cluster)


def measuring_as(
    options: argparse.Namespace, say: Callable[[str], None]
) -> AbstractContextManager[Measuring]:
    """The same as `measuring`, with a command's options."""
    return measuring(options.cluster, options.generator_cluster, say, mixed=options.mixed_hosts)


@contextmanager
def measuring(
    address: str | None,
    generator_address: str | None,
    say: Callable[[str], None],
    *,
    mixed: bool = False,
) -> Iterator[Measuring]:
    """Starts or connects to what measures, for the length of the block.

    Args:
        address: of a cluster for trials, as in `connect.connected`; None for this host.
        generator_address: of a cluster for the generator, as in `pipelines.cluster.connect`.
        say: shows a line.
        mixed: also takes in nodes that differ in processor, cores or GPU.

    Raises:
        PipelineError: there is no such cluster.
        StudyError: no node of the cluster can measure.
        UsageError: Ray isn't installed, a node has other versions than this process, or the
            options contradict each other.
    """
    if address is None:
        if mixed:
            raise UsageError("--mixed-hosts is about a cluster's nodes; give --cluster, too")
        with generator_nodes(generator_address) as nodes, TrialRunner() as runner:
            yield Measuring(runner, None, nodes)
        return
    if generator_address is not None:
        raise UsageError(
            "--cluster and --generator-cluster: a node either runs whole trials or a part of the "
            "generator; leave one out"
        )
    try:
        # Ray is an extra, and takes a second to import.
        from prefetch_tuning.experiments.cluster.connect import connected  # noqa: PLC0415
    except ImportError:
        raise UsageError(f"--cluster {NEEDS_RAY}") from None
    with connected(address, say, mixed=mixed) as cluster:
        yield Measuring(cluster.runner, cluster, None)


@contextmanager
def generator_nodes(address: str | None) -> Iterator[str | None]:
    """The address of a cluster for generators; "local:N" starts one for the length of the block.

    Raises:
        PipelineError: there is no such cluster.
        UsageError: Ray isn't installed.
    """
    if address is None:
        yield None
        return
    try:
        from prefetch_tuning.pipelines.cluster import (  # noqa: PLC0415
            answering,
            local_nodes,
        )
    except ImportError:
        raise UsageError(f"--generator-cluster {NEEDS_RAY}") from None
    nodes = local_nodes(address)
    if nodes is None:
        yield answering(address, streams=True)
        return
    try:
        yield nodes.address
    finally:
        nodes.shutdown()
