"""Measures what nodes add for a generator, and what a trial leaves in the stores; writes the docs.

`make scaling` measures over "local:1" to "local:4", with one process per node, and replaces the
tables of docs/scaling.md.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import ray

from benchmarks.bench import say
from benchmarks.markers import rewrite
from benchmarks.side_by_side.growth.study import Size, grown
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.chain.cluster_shards import ClusterShards
from prefetch_tuning.pipelines.cluster import connect, local_nodes
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from tests.planted.pipelines import Sharded, WaitingShards

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
NODES, REPEATS, SECONDS = (1, 2, 3, 4), 3, 5.0
# Of what a trial leaves behind: the difference between two sizes of a study.
SIZES = (100, 1_000)
# The processes of the comparison of batches, on every number of nodes: more than cores, because
# this host's own processes would make all of them otherwise.
WORKERS, BATCHES = int(usable_cores()) + 2, 40


@dataclass(frozen=True)
class Found:
    """What a number of nodes gave.

    Attributes:
        rates: examples/s of a waiting generator with one process per node, by repeat.
        digest: of the first batches of a generator with four processes.
    """

    nodes: int
    rates: list[float]
    digest: str


def measure() -> list[Found]:
    """Measures every number of nodes, in interleaved order."""
    rates: dict[int, list[float]] = {count: [] for count in NODES}
    digests: dict[int, str] = {0: _digest(None)}
    for repeat in range(REPEATS):
        for count in NODES if repeat % 2 == 0 else reversed(NODES):
            with _Local(count, 1) as address:
                rates[count].append(_rate(count, address))
            if repeat == 0:
                with _Local(count, -(-WORKERS // count)) as address:
                    digests[count] = _digest(address)
            say(f"repeat {repeat + 1} of {REPEATS}: {count} nodes, {rates[count][-1]:.0f}/s")
    return [Found(0, [], digests[0])] + [Found(n, rates[n], digests[n]) for n in NODES]


class _Local:
    """Nodes on this host that each say they have so many cores."""

    def __init__(self, count: int, cores: int) -> None:
        self._count, self._cores = count, cores

    def __enter__(self) -> str:
        nodes = local_nodes(f"local:{self._count}", lambda _: self._cores)
        assert nodes is not None
        self._nodes = nodes
        connect(nodes.address)
        return str(nodes.address)

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self._nodes.shutdown()


def _rate(nodes: int, address: str) -> float:
    config = PipelineConfig(
        batch_size=8, prefetch_buffer=2, map_parallelism=1, generator_workers=nodes
    )
    shards = ClusterShards(WaitingShards(), 0, config, address)
    if len(set(shards.nodes)) != nodes:
        raise RuntimeError(f"{nodes} processes run on the nodes {shards.nodes}")
    blocks = shards.run()
    list(islice(blocks, 2))
    begin, elements = time.perf_counter(), 0
    for block in blocks:
        elements += len(block[0])
        if time.perf_counter() - begin > SECONDS:
            break
    seconds = time.perf_counter() - begin
    shards.close()
    return elements / seconds


def _digest(address: str | None) -> str:
    """SHA-256 of the first batches; from this host's processes without an address."""
    config = PipelineConfig(
        batch_size=8, prefetch_buffer=2, map_parallelism=1, generator_workers=WORKERS
    )
    found = hashlib.sha256()
    for features, labels in build_dataset(Sharded(), config, seed=1, cluster=address).take(BATCHES):
        found.update(features.numpy().tobytes() + labels.numpy().tobytes())
    return found.hexdigest()[:12]


def nodes_table(found: list[Found]) -> Iterator[str]:
    """The rates of each number of nodes and whether the batches were the same."""
    yield f"`make scaling` on {host_description()}, {REPEATS} repeats in interleaved order:"
    yield ""
    yield "| nodes | examples/s (median) | of one node | first batches |"
    yield "|---:|---:|---:|---|"
    local, one = found[0].digest, statistics.median(found[1].rates)
    yield f"| this host's processes | | | `{local}` |"
    for each in found[1:]:
        rate = statistics.median(each.rates)
        same = "the same" if each.digest == local else f"**different**: `{each.digest}`"
        yield f"| {each.nodes} | {rate:,.0f} | {rate / one:.2f}x | {same} |"


def stores_table(smaller: Size, larger: Size, nodes: int, trials: int) -> Iterator[str]:
    """What a trial leaves behind, and what so many trials on so many nodes come to."""
    count = larger.trials - smaller.trials
    optuna_kib = 1_024.0 * (larger.optuna_mib - smaller.optuna_mib) / count
    mlflow_kib = 1_024.0 * (larger.mlflow_mib - smaller.mlflow_mib) / count
    own_ms = larger.trial_ms
    per_s = nodes / TRIAL_S
    yield f"| | per trial | {trials:,} trials |"
    yield "|---|---:|---:|"
    yield f"| Optuna's storage | {optuna_kib:.1f} KiB | {optuna_kib * trials / 2**20:,.1f} GiB |"
    yield f"| MLflow's database | {mlflow_kib:.1f} KiB | {mlflow_kib * trials / 2**20:,.1f} GiB |"
    hours = trials * TRIAL_S / nodes / 3_600.0
    yield f"| measuring on {nodes} nodes | {TRIAL_S:g} s | {hours:,.1f} h |"
    yield (
        f"| the study's own process | {own_ms:.0f} ms | {trials * own_ms / 3.6e6:,.1f} h, on one "
        "core |"
    )
    yield ""
    share = per_s * own_ms / 1e3
    yield (
        f"{nodes} nodes could end {per_s:.0f} trials per second. The study's process can serve "
        f"{1e3 / own_ms:.0f} per second, so it is "
        + (
            f"the bottleneck from {1e3 / own_ms * TRIAL_S:.0f} nodes on."
            if share > 1.0
            else f"busy for {share:.0%} of the time."
        )
    )


# A short look, with the start of its process.
TRIAL_S = 2.0


def main() -> int:
    """Measures and replaces the tables of the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", choices=("nodes", "stores"), help="measure only this")
    options = parser.parse_args()
    if options.only != "stores":
        found = measure()
        rewrite(DOCUMENT, "nodes", list(nodes_table(found)))
        if len({each.digest for each in found}) > 1:
            print("the batches differ", file=sys.stderr)
            return 1
    if options.only != "nodes":
        smaller, larger = grown(SIZES)
        rewrite(DOCUMENT, "stores", list(stores_table(smaller, larger, 100, 1_000_000)))
    print(f"wrote {DOCUMENT}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
