"""The study's side of a trial: a fresh process, a deadline, a memory cap and a clean kill."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any, Self

import psutil

from prefetch_tuning.objectives.arrivals import Arrivals
from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.machine.gpu_watch import GpuWatch
from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.objectives.machine.speed import HostSpeed, speed_index
from prefetch_tuning.objectives.measurement import LimitTerms, Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.answer import (
    await_answer,
    from_status,
    hangs_in,
    kill_group,
    receive,
    write_stacks,
)
from prefetch_tuning.objectives.process.leftovers import remove_folder_of
from prefetch_tuning.objectives.process.output import Output
from prefetch_tuning.objectives.process.server import ServerProcess
from prefetch_tuning.objectives.process.turns import TURNS, host_lock
from prefetch_tuning.objectives.spec import Device, TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.script.scratch import remove_scratch_of
from prefetch_tuning.pipelines.source import PipelineError

INSPECT_DEADLINE_S = 120.0
# Beyond the time that arrivals are recorded for: the start, and the last element.
ARRIVALS_DEADLINE_S = 30.0
# A trial may take this share of the memory that is free when it starts.
HOST_CAP_SHARE = 0.8


class TrialRunner:
    """Starts the fork server and runs one job after another through it.

    Use as a context manager. `start` returns at once; the first job waits until the server is up.

    Attributes:
        say: shows a line; called once, if another program measures on this host, too.
    """

    def __init__(self, *, fork: bool = True, gpu: Gpu | None = None) -> None:
        """`fork=False` starts a new interpreter for each trial, as happens if CUDA is in use.

        `gpu` is sampled during the trials that may run on it.
        """
        self._server = ServerProcess("fork" if fork else "spawn")
        self._gpu = Gpu() if gpu is None else gpu
        self._watch = GpuWatch(self._gpu)
        self._speed = HostSpeed()
        self.say: Callable[[str], None] = lambda _: None
        self._said = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the server, which imports TensorFlow in the background.

        Raises:
            WorkerError: Keras is set to another backend, and importing that might fail.
        """
        self._server.start()

    @property
    def forks(self) -> bool:
        """False if each trial starts a new interpreter, because CUDA was in use."""
        return self._server.forks

    @property
    def server_pid(self) -> int | None:
        """The pid of the process that forks the trials; None before `start` and after `close`."""
        return self._server.pid

    @property
    def server_mib(self) -> float | None:
        """Memory of the server alone, which has imported TensorFlow; None before it has started."""
        if self.server_pid is None:
            return None
        try:
            return float(psutil.Process(self.server_pid).memory_full_info().uss) / MIB
        except psutil.Error:  # it died; the next trial starts another one
            return None

    def close(self) -> None:
        """Ends the server and any trial that is still running."""
        self._server.end()
        self._gpu.close()

    def try_inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo | TrialFailure:
        """Imports and checks a pipeline in a separate process; measures nothing."""
        job = {"job": "inspect", "pipeline": pipeline, "seed": seed, "device": device}
        answer = self._run(job, INSPECT_DEADLINE_S, None)
        if isinstance(answer, TrialFailure):
            last = answer.output.strip().split("\n")[-1]
            detail = f"{pipeline} cannot be inspected: {answer.detail}; its last output: {last!r}"
            return answer.model_copy(update={"detail": detail})
        if "failure" in answer:
            return _failure(answer)
        return PipelineInfo.model_validate(answer["info"])

    def inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo:
        """`try_inspect` for a command that needs the pipeline to continue.

        Raises:
            PipelineError: the pipeline can't be used; one line says why.
        """
        info = self.try_inspect(pipeline, seed, device)
        if isinstance(info, TrialFailure):
            raise PipelineError(info.detail)
        return info

    def measure_stages(
        self,
        pipeline: str,
        seed: int,
        device: Device,
        deadline_s: float = INSPECT_DEADLINE_S,
        cluster: str | None = None,
    ) -> StageCosts | TrialFailure:
        """Measures the cost of each stage alone, while nothing else is measured on this host.

        With the address of a `cluster`, it also says what its nodes offer for the generator.
        """
        job = {"job": "stages", "pipeline": pipeline, "seed": seed, "device": device}
        job["cluster"] = cluster
        answer = self._alone(job, deadline_s, default_cap_mib())
        if isinstance(answer, TrialFailure):
            return answer
        return StageCosts.model_validate(answer["stages"])

    def record_arrivals(
        self, pipeline: str, seed: int, most_s: float, most_pauses: int
    ) -> Arrivals | TrialFailure:
        """Records when the bare generator's elements arrive; see `arrivals.record_arrivals`."""
        job = {"job": "arrivals", "pipeline": pipeline, "seed": seed, "device": "cpu"}
        job |= {"most_s": most_s, "most_pauses": most_pauses}
        answer = self._alone(job, most_s + ARRIVALS_DEADLINE_S, default_cap_mib())
        if isinstance(answer, TrialFailure):
            return answer
        return Arrivals.model_validate(answer["arrivals"])

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
        """Measures the limit's terms in a fresh process; nothing else is measured on this host."""
        job = {"job": "limit", "pipeline": pipeline, "batch_size": batch_size, "seed": seed}
        job |= {"device": device, "vectorized": vectorized, "cached": cached}
        with self._turn(), self._watching(device) as watch:
            answer = self._run(job, INSPECT_DEADLINE_S, default_cap_mib())
        if isinstance(answer, TrialFailure):
            return answer
        if "failure" in answer:
            return _failure(answer)
        terms = LimitTerms.model_validate(answer["limit"])
        return terms.model_copy(update={"gpu": watch.readings if watch else None})

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        """Measures one configuration, alone on this host; a process that dies gives a failure."""
        cap_mib = spec.host_cap_mib or default_cap_mib()
        job = {"job": "measure", "spec": spec.model_dump(mode="json")}
        with self._turn():
            before_s = self._speed.before()
            with self._watching(spec.device) as watch:
                answer = self._run(job, spec.deadline_s, cap_mib)
            after_s = self._speed.after()
        if isinstance(answer, TrialFailure):
            return answer
        if "failure" in answer:
            return _failure(answer)
        measurement = Measurement.model_validate(answer["measurement"])
        index = speed_index(before_s, after_s)
        # The trial logged what it skipped. That is worth keeping even if the trial went well.
        output = answer["output"] if measurement.skipped_elements else ""
        # "auto" may have ended up on the CPU although NVML sees a GPU that TensorFlow can't use.
        on_gpu = measurement.device.startswith("gpu")
        seen = watch.readings if watch and on_gpu else None
        more = {"host_speed_index": index, "output": output, "gpu": seen}
        return measurement.model_copy(update=more)

    def read_data(
        self, spec: TrialSpec, most_s: float, stages: int | None = None
    ) -> list[str] | TrialFailure:
        """Returns the digests of a configuration's first batches, read without training.

        Args:
            spec: `digest_batches` is the number of batches. `deadline_s` covers what comes on top
                of `most_s`: the start, and the batch that is being read when `most_s` is over.
            most_s: seconds after which no further batch is read.
            stages: reads as many elements behind this many transformations of a declared chain.
        """
        cap_mib = spec.host_cap_mib or default_cap_mib()
        job = {"job": "data", "spec": spec.model_dump(mode="json"), "most_s": most_s}
        job["stages"] = stages
        answer = self._alone(job, most_s + spec.deadline_s, cap_mib)
        if isinstance(answer, TrialFailure):
            return answer
        return [str(each) for each in answer["data"]]

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        """The host's lock; says once if another program has it."""
        return host_lock(self._say_waiting)

    def _say_waiting(self) -> None:
        if not self._said:
            self._said = True
            self.say(TURNS)

    @contextlib.contextmanager
    def _watching(self, device: Device) -> Iterator[GpuWatch | None]:
        """Samples the GPU during the block if steps may run on one; yields None on the CPU."""
        if device == "cpu":
            yield None
            return
        self._gpu.open()  # opened by the first trial that needs it, and kept open
        with self._watch as watch:
            yield watch

    def _alone(
        self, job: dict[str, Any], deadline_s: float, cap_mib: float
    ) -> dict[str, Any] | TrialFailure:
        """Runs a job while nothing else is measured on this host; its failure becomes one here."""
        with self._turn():
            answer = self._run(job, deadline_s, cap_mib)
        if isinstance(answer, TrialFailure) or "failure" not in answer:
            return answer
        return _failure(answer)

    def _run(
        self, job: dict[str, Any], deadline_s: float, cap_mib: float | None
    ) -> dict[str, Any] | TrialFailure:
        control = self._server.connect()
        result_r, result_w = os.pipe()
        with Output() as output, os.fdopen(result_r, "rb", 0) as result:
            try:
                socket.send_fds(control, [json.dumps(job).encode()], [result_w, output.write_end])
            finally:
                os.close(result_w)
                output.started()
            started = receive(control)
            if started is None:
                return self._server_died(output)
            pid, answer = int(started["pid"]), None
            try:
                failure, answer = await_answer(result, control, output, pid, deadline_s, cap_mib)
                if failure is not None and failure[0] == "timeout":
                    write_stacks(pid, output)
            finally:
                kill_group(pid)  # also ends what the trial left behind, even if it answered
                if answer is None:  # otherwise it has removed its own
                    remove_scratch_of(pid)
                    remove_folder_of(pid)
            ended = receive(control)
            if answer is not None:
                return {**json.loads(answer), "output": output.tail}
            if failure is None:
                failure = from_status(ended["status"]) if ended else None
            if failure is None:
                return self._server_died(output)
            last = output.tail
            place = hangs_in(last) if failure[0] == "timeout" else ""
            return TrialFailure(kind=failure[0], detail=failure[1] + place, output=last)

    def _server_died(self, output: Output) -> TrialFailure:
        self._server.end()
        detail = "the fork server died during the trial; the next trial starts a new one"
        return TrialFailure(kind="crash", detail=detail, output=output.tail)


def default_cap_mib() -> float:
    """How much of the memory that is free now a process may take, in MiB."""
    return HOST_CAP_SHARE * float(psutil.virtual_memory().available) / MIB


def _failure(answer: dict[str, Any]) -> TrialFailure:
    """The failure that the trial itself reported, with its output."""
    return TrialFailure.model_validate({**answer["failure"], "output": answer["output"]})
