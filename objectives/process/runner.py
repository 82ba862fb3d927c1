"""The study's side of a trial: a fresh process, a deadline, a memory cap, and a clean kill."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

import psutil
from filelock import FileLock

from prefetch_tuning.objectives.machine.gpu import Gpu
from prefetch_tuning.objectives.machine.gpu_watch import GpuWatch
from prefetch_tuning.objectives.machine.process_tree import LOOK_EVERY_S, MIB, tree_resident_mib
from prefetch_tuning.objectives.machine.speed import speed_index, time_fixed_work
from prefetch_tuning.objectives.measurement import (
    FailureKind,
    LimitTerms,
    Measurement,
    PipelineInfo,
    StageCosts,
    TrialFailure,
)
from prefetch_tuning.objectives.process.keras_backend import why_not_tensorflow
from prefetch_tuning.objectives.spec import Device, TrialSpec
from prefetch_tuning.pipelines.source import PipelineError

OUTPUT_LINES = 30
OUTPUT_BYTES = 16_384
READY_TIMEOUT_S = 180.0
INSPECT_DEADLINE_S = 120.0
POLL_S = 0.25
# -P: a `pipelines/` folder in the current directory must not stand in for this project's.
SERVER = [sys.executable, "-P", "-m", "prefetch_tuning.objectives.process.fork_server"]
# Share of the memory that is free when a trial starts which the trial may take.
HOST_CAP_SHARE = 0.8
OUTSIDE_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class WorkerError(RuntimeError):
    """The fork server could not be started, so nothing can be measured here."""


@contextlib.contextmanager
def host_lock() -> Iterator[None]:
    """One measured trial a host at a time: two side by side would measure each other."""
    path = Path(tempfile.gettempdir()) / "prefetch-tuning.lock"
    with FileLock(path, mode=0o666):
        yield


class TrialRunner:
    """Starts the fork server and runs one job after another through it.

    Use as a context manager. `start` returns at once; the first job waits for the server.
    """

    def __init__(self, *, fork: bool = True, gpu: Gpu | None = None) -> None:
        """`fork=False` starts a new interpreter for each trial, as is done where CUDA is in use.

        `gpu` is the one that is looked at beside trials that may run on it.
        """
        self._mode = "fork" if fork else "spawn"
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._server_output: IO[bytes] | None = None
        self._ready = False
        self._gpu = Gpu() if gpu is None else gpu
        self._watch = GpuWatch(self._gpu)
        self.forks = True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the server, which imports TensorFlow in the background.

        Raises:
            WorkerError: Keras is set to another backend; the server's import of it might fail.
        """
        if (reason := why_not_tensorflow()) is not None:
            raise WorkerError(reason)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server_output = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        with theirs:
            self._server = subprocess.Popen(
                [*SERVER, str(theirs.fileno()), self._mode],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._server_output,
                stderr=self._server_output,
                start_new_session=True,  # the terminal's Ctrl-C must not reach it
            )
        self._control, self._ready = ours, False

    @property
    def server_pid(self) -> int | None:
        """Of the process that forks the trials; None before `start` and after `close`."""
        return None if self._server is None else self._server.pid

    def close(self) -> None:
        """Ends the server, and with it a trial that is still running."""
        self._end_server()
        self._gpu.close()

    def _end_server(self) -> None:
        """Ends the server alone: NVML is asked on beside the next one."""
        if self._control is not None:
            self._control.close()
        if self._server is not None:
            try:
                # One that is still importing TensorFlow would notice seconds later.
                self._server.wait(timeout=5 if self._ready else 0)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        if self._server_output is not None:
            self._server_output.close()
        self._server = self._control = self._server_output = None

    def try_inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo | TrialFailure:
        """Imports and checks a pipeline in a process of its own; measures nothing."""
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
        """`try_inspect` for a command that cannot go on without the pipeline.

        Raises:
            PipelineError: it cannot be used; one line says why.
        """
        info = self.try_inspect(pipeline, seed, device)
        if isinstance(info, TrialFailure):
            raise PipelineError(info.detail)
        return info

    def measure_stages(self, pipeline: str, seed: int, device: Device) -> StageCosts | TrialFailure:
        """Measures what each stage of a pipeline costs by itself, alone on this host."""
        job = {"job": "stages", "pipeline": pipeline, "seed": seed, "device": device}
        answer = self._alone(job, INSPECT_DEADLINE_S, default_cap_mib())
        if isinstance(answer, TrialFailure):
            return answer
        return StageCosts.model_validate(answer["stages"])

    def measure_limit(
        self, pipeline: str, batch_size: int, seed: int, device: Device, *, vectorized: bool
    ) -> LimitTerms | TrialFailure:
        """Measures the terms of a pipeline's limit in a fresh process, alone on this host."""
        job = {"job": "limit", "pipeline": pipeline, "batch_size": batch_size, "seed": seed}
        job |= {"device": device, "vectorized": vectorized}
        with host_lock(), self._watching(device) as watch:
            answer = self._run(job, INSPECT_DEADLINE_S, default_cap_mib())
        if isinstance(answer, TrialFailure):
            return answer
        if "failure" in answer:
            return _failure(answer)
        terms = LimitTerms.model_validate(answer["limit"])
        return terms.model_copy(update={"gpu": watch.readings if watch else None})

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        """Measures one configuration, alone on this host, whatever becomes of its process."""
        cap_mib = spec.host_cap_mib or default_cap_mib()
        job = {"job": "measure", "spec": spec.model_dump(mode="json")}
        with host_lock():
            before_s = time_fixed_work()
            with self._watching(spec.device) as watch:
                answer = self._run(job, spec.deadline_s, cap_mib)
            after_s = time_fixed_work()
        if isinstance(answer, TrialFailure):
            return answer
        if "failure" in answer:
            return _failure(answer)
        measurement = Measurement.model_validate(answer["measurement"])
        index = speed_index(before_s, after_s)
        # What was skipped is logged there, which is worth keeping of a trial that went well, too.
        output = answer["output"] if measurement.skipped_elements else ""
        # "auto" may have ended on the CPU, beside a GPU that TensorFlow cannot use.
        on_gpu = measurement.device.startswith("gpu")
        seen = watch.readings if watch and on_gpu else None
        more = {"host_speed_index": index, "output": output, "gpu": seen}
        return measurement.model_copy(update=more)

    def read_data(self, spec: TrialSpec, most_s: float) -> list[str] | TrialFailure:
        """The digests of a configuration's first batches, read without training.

        Args:
            spec: `digest_batches` says how many; `deadline_s` is for what comes beyond `most_s`,
                the start and the batch that is being read when it is over.
            most_s: seconds after which no further batch is read.
        """
        cap_mib = spec.host_cap_mib or default_cap_mib()
        job = {"job": "data", "spec": spec.model_dump(mode="json"), "most_s": most_s}
        answer = self._alone(job, most_s + spec.deadline_s, cap_mib)
        if isinstance(answer, TrialFailure):
            return answer
        return [str(each) for each in answer["data"]]

    @contextlib.contextmanager
    def _watching(self, device: Device) -> Iterator[GpuWatch | None]:
        """Looks at the GPU meanwhile, where steps may run on one; None on the CPU."""
        if device == "cpu":
            yield None
            return
        self._gpu.open()  # at the first trial that needs it, and kept open
        with self._watch as watch:
            yield watch

    def _alone(
        self, job: dict[str, Any], deadline_s: float, cap_mib: float
    ) -> dict[str, Any] | TrialFailure:
        """Runs a job while nothing else is measured on this host; its own failure is one, too."""
        with host_lock():
            answer = self._run(job, deadline_s, cap_mib)
        if isinstance(answer, TrialFailure) or "failure" not in answer:
            return answer
        return _failure(answer)

    def _run(
        self, job: dict[str, Any], deadline_s: float, cap_mib: float | None
    ) -> dict[str, Any] | TrialFailure:
        control = self._connect()
        result_r, result_w = os.pipe()
        with tempfile.TemporaryFile() as output, os.fdopen(result_r, "rb", 0) as result:
            try:
                socket.send_fds(control, [json.dumps(job).encode()], [result_w, output.fileno()])
            finally:
                os.close(result_w)
            started = _receive(control)
            if started is None:
                return self._server_died(output)
            pid = int(started["pid"])
            try:
                failure, answer = _await_answer(result, control, pid, deadline_s, cap_mib)
            finally:
                _kill_group(pid)  # also what the trial left behind, whether or not it answered
            ended = _receive(control)
            if answer is not None:
                return {**json.loads(answer), "output": _tail(output)}
            if failure is None:
                failure = _from_status(ended["status"]) if ended else None
            if failure is None:
                return self._server_died(output)
            return TrialFailure(kind=failure[0], detail=failure[1], output=_tail(output))

    def _connect(self) -> socket.socket:
        """The socket of a server that is ready, started anew if it died."""
        if self._server is None or self._server.poll() is not None:
            self._end_server()
            self.start()
        assert self._control is not None
        if not self._ready:
            self._control.settimeout(READY_TIMEOUT_S)
            try:
                hello = _receive(self._control)
            except TimeoutError:
                hello = None
            self._control.settimeout(None)
            if hello is None:
                assert self._server_output is not None
                raise WorkerError(
                    "the process that imports TensorFlow did not start; its last output:\n"
                    + _tail(self._server_output)
                )
            self._ready, self.forks = True, bool(hello["forks"])
        return self._control

    def _server_died(self, output: IO[bytes]) -> TrialFailure:
        self._end_server()
        detail = "the fork server died during the trial; the next trial starts a new one"
        return TrialFailure(kind="crash", detail=detail, output=_tail(output))


def default_cap_mib() -> float:
    """What a process may take of the memory that is free now, in MiB."""
    return HOST_CAP_SHARE * float(psutil.virtual_memory().available) / MIB


def _await_answer(
    result: IO[bytes], control: socket.socket, pid: int, deadline_s: float, cap_mib: float | None
) -> tuple[tuple[FailureKind, str] | None, bytes | None]:
    """Reads the answer's line; a failure if the deadline or the memory cap comes first."""
    end, look_at = time.monotonic() + deadline_s, 0.0
    answer = b""
    while True:
        ready, _, _ = select.select([result.fileno(), control.fileno()], [], [], POLL_S)
        if result.fileno() in ready:
            part = result.read(65_536)
            answer += part
            if answer.endswith(b"\n"):
                return None, answer
            if not part:
                return None, None  # it ended without an answer; the wait status says how
        elif ready and not select.select([result.fileno()], [], [], 0)[0]:
            # The server says that the trial ended, or is gone itself: an answer would be here.
            return None, None
        if time.monotonic() > end:
            return ("timeout", f"no result within {deadline_s:g} s; killed"), None
        if cap_mib is not None and time.monotonic() >= look_at:
            look_at = time.monotonic() + LOOK_EVERY_S
            used_mib = tree_resident_mib(pid)
            if used_mib > cap_mib:
                detail = f"used {used_mib:.0f} MiB, over the cap of {cap_mib:.0f} MiB; killed"
                return ("out_of_memory", detail), None


def _failure(answer: dict[str, Any]) -> TrialFailure:
    """The failure that a trial reported itself, with its output."""
    return TrialFailure.model_validate({**answer["failure"], "output": answer["output"]})


def _from_status(status: int) -> tuple[FailureKind, str]:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return "crash", f"the trial's process exited with status {code} and no result"
    name = signal.Signals(-code).name
    if -code in OUTSIDE_SIGNALS:
        return "killed", f"killed by {name}: from outside, or by the kernel for lack of memory"
    return "crash", f"the trial's process crashed with {name}"


def _receive(control: socket.socket) -> dict[str, Any] | None:
    """The server's next message; None when it is gone."""
    try:
        message = control.recv(4_096)
    except ConnectionError:
        return None
    return json.loads(message) if message else None


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _tail(output: IO[bytes]) -> str:
    """The last lines of what the process wrote."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - OUTPUT_BYTES, 0))
    text = output.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-OUTPUT_LINES:])
