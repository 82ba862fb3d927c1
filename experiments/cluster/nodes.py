"""The nodes of a Ray cluster: an actor on each owns its fork server and claims the whole node."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prefetch_tuning.experiments.errors import StudyError, UsageError, first_line
from prefetch_tuning.experiments.host.environment import package_versions, processor
from prefetch_tuning.experiments.study.work import Call, NodeLostError
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines.cluster import threads_as_the_user_has_them
from prefetch_tuning.pipelines.cores import usable_cores

# A node that is up, but has no room for the actor, belongs to somebody else at the moment.
START_S = 120.0
# What has to be the same on all nodes.
SAME = ("python", "prefetch-tuning", "tensorflow", "keras", "numpy")


class NodeInfo(BaseModel):
    """What a node is. Nodes of one class are alike in processor, cores and GPU.

    Attributes:
        processor: its model.
        cores: cores that a trial may use.
        gpu: name of the GPU; None without one.
        versions: of Python and the packages.
    """

    model_config = ConfigDict(frozen=True)

    processor: str
    cores: float
    gpu: str | None
    versions: Mapping[str, str]

    @property
    def node_class(self) -> str:
        """Its class in words."""
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.cores:g} x {self.processor}{gpu}"


class Measurer:
    """The actor of a node: makes the runner's calls there, one at a time."""

    def __init__(self) -> None:
        threads_as_the_user_has_them()
        self._runner = TrialRunner()
        self._runner.start()

    def describe(self) -> NodeInfo:
        """What this node is."""
        with contextlib.closing(Gpu()) as gpu:
            gpu.open()
            return NodeInfo(
                processor=processor(),
                cores=usable_cores(),
                gpu=gpu.name,
                versions=package_versions(),
            )

    def call(self, method: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
        """Calls one of the runner's methods."""
        return getattr(self._runner, method)(*arguments, **options)

    def read(self, name: str) -> Any:
        """Reads one of the runner's attributes."""
        return getattr(self._runner, name)


class RayNodes:
    """The nodes that carry out calls; see `driver.Nodes`.

    Attributes:
        infos: what each node is, by its name.
    """

    def __init__(self, say: Callable[[str], None], *, mixed: bool) -> None:
        """Starts an actor on every node of the cluster that this process is connected to.

        Args:
            say: shows a line, such as about a node that is left out.
            mixed: takes in nodes of different classes.

        Raises:
            StudyError: no node can measure.
            UsageError: a node has other versions than this process.
        """
        self._actors = _actors()
        self._calls: dict[Any, str] = {}
        self.infos = self._described(say)
        self._check_versions()
        if not mixed:
            self._keep_one_class(say)

    @property
    def names(self) -> list[str]:
        return list(self._actors)

    def begin(self, node: str, call: Call) -> None:
        options = dict(call.options)
        ref = self._actors[node].call.remote(call.method, call.arguments, options)
        self._calls[ref] = node

    def wait(self) -> tuple[str, Any]:
        (ref, *_), _ = ray.wait(list(self._calls), num_returns=1)
        node = self._calls.pop(ref)
        return node, self._answer(node, ref)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Makes a call on any node while no other is running.

        Raises:
            StudyError: no node is left; it says why the last one isn't.
        """
        return self._on_any(lambda actor: actor.call.remote(method, arguments, options))

    def read(self, name: str) -> Any:
        """Reads an attribute of the runner of any node."""
        return self._on_any(lambda actor: actor.read.remote(name))

    def _on_any(self, ask: Callable[[Any], Any]) -> Any:
        reason = "none is left"
        while self._actors:
            node, actor = next(iter(self._actors.items()))
            answer = self._answer(node, ask(actor))
            if not isinstance(answer, NodeLostError):
                return answer
            reason = str(answer)
        raise StudyError(f"no node of the cluster can measure: {reason}")

    def _answer(self, node: str, ref: Any) -> Any:
        """A call's answer, or `NodeLostError`; the node is then out of use.

        Also a node on which the runner itself fails, for example for lack of disk space.
        """
        try:
            return ray.get(ref)
        except RayTaskError as error:
            ray.kill(self._actors.pop(node))
            cause = f"{type(error.cause).__name__}: {first_line(error.cause)}"
            return NodeLostError(f"{node} is left out: {cause}")
        except RayError:
            self._actors.pop(node, None)
            return NodeLostError(f"{node} is lost")

    def _described(self, say: Callable[[str], None]) -> dict[str, NodeInfo]:
        asked = {actor.describe.remote(): node for node, actor in self._actors.items()}
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=START_S)
        for ref in late:
            node = asked[ref]
            say(f"{node} is left out: it had no room for a trial within {START_S:.0f} s")
            ray.kill(self._actors.pop(node))
        found = {}
        for ref in ready:
            try:
                found[asked[ref]] = ray.get(ref)
            except RayError as error:
                node = asked[ref]
                say(f"{node} is left out: {first_line(error)}")
                del self._actors[node]
        if not found:
            raise StudyError("no node of the cluster can run a trial")
        return {node: found[node] for node in self._actors}

    def _check_versions(self) -> None:
        own = package_versions()
        for node, info in self.infos.items():
            for package in SAME:
                if info.versions.get(package) != own.get(package):
                    raise UsageError(
                        f"{node} has {package} {info.versions.get(package)}, this host has "
                        f"{own.get(package)}; install the same on all nodes"
                    )

    def _keep_one_class(self, say: Callable[[str], None]) -> None:
        """Keeps the nodes of the commonest class."""
        classes = Counter(info.node_class for info in self.infos.values())
        ((common, _),) = classes.most_common(1)
        for node, info in list(self.infos.items()):
            if info.node_class != common:
                say(
                    f"{node} is left out: {info.node_class}, where the others have {common}; "
                    "--mixed-hosts takes it in"
                )
                ray.kill(self._actors.pop(node))
                del self.infos[node]


def _actors() -> dict[str, Any]:
    """An actor on each living node, by the node's name."""
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    hosts = Counter(node["NodeManagerHostname"] for node in alive)
    actors = {}
    for number, node in enumerate(sorted(alive, key=lambda node: str(node["NodeID"])), start=1):
        host = node["NodeManagerHostname"]
        name = host if hosts[host] == 1 else f"{host}-{number}"
        resources = node["Resources"]
        actors[name] = (
            ray.remote(Measurer)
            .options(
                num_cpus=resources["CPU"],
                num_gpus=resources.get("GPU", 0),
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            )
            .remote()
        )
    return actors
