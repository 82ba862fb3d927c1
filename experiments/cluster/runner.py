"""A runner whose calls are made on a node of a cluster."""

from __future__ import annotations

from prefetch_tuning.experiments.cluster.nodes import RayNodes
from prefetch_tuning.objectives.arrivals import Arrivals
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import INSPECT_DEADLINE_S, TrialRunner
from prefetch_tuning.objectives.spec import Device, TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts


class ClusterRunner(TrialRunner):
    """Makes what comes before trials and rounds, such as the diagnosis, on one of the nodes."""

    def __init__(self, nodes: RayNodes) -> None:
        super().__init__()  # starts nothing
        self._nodes = nodes

    def start(self) -> None:
        """Does nothing: each node has its own server."""

    def close(self) -> None:
        """Does nothing: whoever connected to the cluster ends it."""

    @property
    def forks(self) -> bool:
        return bool(self._nodes.read("forks"))

    @property
    def server_pid(self) -> int | None:
        """None: the servers are on the nodes."""
        return None

    @property
    def server_mib(self) -> float | None:
        found: float | None = self._nodes.read("server_mib")
        return found

    def try_inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo | TrialFailure:
        found: PipelineInfo | TrialFailure = self._nodes.call("try_inspect", pipeline, seed, device)
        return found

    def measure_stages(
        self,
        pipeline: str,
        seed: int,
        device: Device,
        deadline_s: float = INSPECT_DEADLINE_S,
        cluster: str | None = None,
    ) -> StageCosts | TrialFailure:
        found: StageCosts | TrialFailure = self._nodes.call(
            "measure_stages", pipeline, seed, device, deadline_s, cluster
        )
        return found

    def record_arrivals(
        self, pipeline: str, seed: int, most_s: float, most_pauses: int
    ) -> Arrivals | TrialFailure:
        found: Arrivals | TrialFailure = self._nodes.call(
            "record_arrivals", pipeline, seed, most_s, most_pauses
        )
        return found

    def measure_limit(
        self,
        pipeline: str,
        batch_size: int,
        seed: int,
        device: Device,
        *,
        vectorized: bool,
        cached: bool = False,
    ) -> LimitTerms | TrialFailure:
        axes = {"vectorized": vectorized, "cached": cached}
        found: LimitTerms | TrialFailure = self._nodes.call(
            "measure_limit", pipeline, batch_size, seed, device, **axes
        )
        return found

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        found: Measurement | TrialFailure = self._nodes.call("measure", spec)
        return found

    def read_data(
        self, spec: TrialSpec, most_s: float, stages: int | None = None
    ) -> list[str] | TrialFailure:
        found: list[str] | TrialFailure = self._nodes.call("read_data", spec, most_s, stages)
        return found
