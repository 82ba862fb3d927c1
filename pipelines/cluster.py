"""The connection to a Ray cluster, and its free cores."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Reports of how it is used can't leave most clusters, and nobody asked for them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import psutil
import ray
from ray._private.services import get_ray_address_from_environment
from ray._private.state import available_resources_per_node
from ray.cluster_utils import Cluster as LocalCluster

from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import PipelineError

LOCAL, MOST_LOCAL = "local:", 16
LOCAL_ADDRESS = "PREFETCH_TUNING_LOCAL_CLUSTER"
THREADS = "OMP_NUM_THREADS"
# Never shipped: results, environments and the repository itself.
NOT_SHIPPED = ["mlruns", ".venv", ".git"]
# Of each local node. It holds blocks of elements, or the answers of trials.
OBJECT_STORE_BYTES = 200 * 2**20
# Ray notices within so many seconds that a process ended, and frees its cores.
FREED_S = 15.0
# A host that is there answers within so many seconds.
ANSWERS_S = 5.0


def connect(address: str) -> None:
    """Connects this process to a cluster, unless it is connected.

    Args:
        address: "auto" or "HOST:PORT", of a cluster of which this host is a node; or "local:N" for
            N nodes on this host, which end with this process.

    Raises:
        PipelineError: there is no such cluster.
    """
    if ray.is_initialized():
        return
    local = local_nodes(address)
    if local is not None:
        atexit.register(local.shutdown)
        atexit.register(ray.shutdown)  # before that
        address = local.address
    address = answering(address, streams=True)
    reach(address, **({} if is_local(address) else {"runtime_env": shipped()}))


def shipped() -> dict[str, Any]:
    """Ray's `runtime_env` with which the current directory's code gets to the nodes."""
    return {"working_dir": str(Path.cwd()), "excludes": NOT_SHIPPED}


def is_local(address: str) -> bool:
    """Whether this program started the cluster's nodes, all of them on this host."""
    return os.environ.get(LOCAL_ADDRESS) == address


def reach(address: str, **options: Any) -> None:
    """Connects this process to a cluster that runs; `options` go to `ray.init`.

    Raises:
        PipelineError: there is no such cluster.
    """
    address = answering(address)
    try:
        with _own_sigterm():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise PipelineError(f"the cluster {address} can't be used: {reason}") from None


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps the program's handler of SIGTERM: Ray's would end it with results half-written."""
    own = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, own)


def answering(address: str, *, streams: bool = False) -> str:
    """The address of a cluster that answers; "auto" becomes the one that Ray finds.

    Ray itself would try for ten minutes. What `streams` can't come from outside of the cluster.

    Raises:
        PipelineError: nothing listens there.
    """
    if address == "auto":
        try:
            address = get_ray_address_from_environment(address, None)
        except ConnectionError:
            raise PipelineError(
                "cluster 'auto': Ray doesn't run on this host; start it with ray start, or give "
                "HOST:PORT"
            ) from None
    if streams and address.startswith("ray://"):
        raise PipelineError(
            f"cluster {address!r}: a generator needs a host that is a node of the cluster; give "
            "auto or HOST:PORT there"
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise PipelineError(
            f"cluster {address!r}: give auto, HOST:PORT, ray://HOST:PORT or local:N"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_S).close()
    except OSError as error:
        raise PipelineError(
            f"the cluster {address} doesn't answer: {error}; start it with ray start --head"
        ) from None
    return address


def shared_cores(count: int) -> int:
    """The cores of each of so many nodes that share this host's."""
    return max(int(usable_cores()) // count, 1)


def local_nodes(address: str, cores: Callable[[int], int] = shared_cores) -> LocalCluster | None:
    """Starts several nodes on this host if the address asks for them, as "local:N".

    Args:
        address: of any cluster.
        cores: the cores that each node says it has, given the number of nodes.

    Raises:
        PipelineError: the number can't be used.
    """
    if not address.startswith(LOCAL):
        return None
    text = address.removeprefix(LOCAL)
    count = int(text) if text.isdecimal() else 0
    if not 1 <= count <= MOST_LOCAL:
        raise PipelineError(f"cluster {address!r}: give local:N with N from 1 to {MOST_LOCAL}")
    own = {"num_cpus": cores(count), "object_store_memory": OBJECT_STORE_BYTES}
    with _own_sigterm():
        cluster = LocalCluster(
            initialize_head=True, head_node_args={**own, "include_dashboard": False}
        )
        for _ in range(count - 1):
            cluster.add_node(**own)
        cluster.wait_for_nodes()
    os.environ[LOCAL_ADDRESS] = cluster.address  # trials inherit it
    return cluster


def threads_as_the_user_has_them() -> None:
    """Takes back the number of threads that Ray sets for its workers, so all is as elsewhere.

    The process that started this one has the user's own.
    """
    with contextlib.suppress(psutil.Error):
        own = psutil.Process(os.getppid()).environ().get(THREADS)
        if own is None:
            os.environ.pop(THREADS, None)
        else:
            os.environ[THREADS] = own


def cores_of_nodes() -> dict[str, int]:
    """The cores of each living node, free or not, by Ray's ids."""
    return {
        node["NodeID"]: int(node["Resources"].get("CPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    }


class Places:
    """Gives out free cores: this host's first, then those of as few other nodes as possible."""

    def __init__(self) -> None:
        self._taken: list[str] = []
        self._suspect: set[str] = set()

    def take(self, count: int) -> list[str]:
        """The nodes of `count` cores that nobody uses yet, by Ray's ids.

        Raises:
            PipelineError: there are fewer.
        """
        end = time.monotonic() + FREED_S
        while len(free := list(self._free())) < count and time.monotonic() < end:
            if sum(cores_of_nodes().values()) - len(self._taken) < count:
                break  # waiting wouldn't help
            time.sleep(0.2)  # the latest trial's are about to be freed
        if len(free) < count:
            raise PipelineError(
                f"the cluster has {len(free)} free cores for {count} more generator_workers; take "
                "fewer, or add nodes"
            )
        self._taken += free[:count]
        return free[:count]

    def lost(self, node: str) -> None:
        """Frees a core of a node where something ended; others are given out before it.

        The node itself may be lost, even if Ray doesn't know it yet.
        """
        self._taken.remove(node)
        self._suspect.add(node)

    def _free(self) -> Iterator[str]:
        """A node's id for each of its free cores."""
        own = ray.get_runtime_context().get_node_id()
        cores = cores_of_nodes()
        seen = available_resources_per_node()

        def rank(node: str) -> tuple[bool, bool, int, str]:
            return node in self._suspect, node != own, -cores[node], node

        for node in sorted(cores, key=rank):
            # What was taken here may not be placed yet, so Ray may still count it as free.
            free = int(seen.get(node, {}).get("CPU", cores[node]))
            yield from [node] * min(free, cores[node] - self._taken.count(node))
