"""The trial's process: reads one job and writes one JSON line to its own pipe, never to stdout."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import keras
from pydantic import BaseModel

from prefetch_tuning.objectives.arrivals import Arrivals, record_arrivals
from prefetch_tuning.objectives.checks.inspection import inspect_pipeline
from prefetch_tuning.objectives.machine.device import (
    DeviceError,
    select_device,
    select_device_for,
)
from prefetch_tuning.objectives.measurement import LimitTerms, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.answer import STACKS_SIGNAL
from prefetch_tuning.objectives.process.failures import quote
from prefetch_tuning.objectives.process.leftovers import give_own_folder, remove_leftovers
from prefetch_tuning.objectives.process.trial import Trial
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.objectives.stages.generator_stages import Stages
from prefetch_tuning.objectives.stages.limit_terms import measure_limit_terms
from prefetch_tuning.objectives.stages.py_dataset_stages import PyDatasetStages
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.chain.processes import remove_names
from prefetch_tuning.pipelines.script.scratch import remove_scratch
from prefetch_tuning.pipelines.script.session import run_to_fit
from prefetch_tuning.pipelines.source import BatchesPipeline, GeneratorPipeline, PipelineError
from prefetch_tuning.pipelines.target import Target

STDERR = 2


def run_job(request: str, answer: Callable[[str], None]) -> None:
    """Runs one job, `{"job": NAME, ...}` with a name of `JOBS`, "measure" or "data".

    Its answer is a line of JSON with one key: "measurement", "data", "info", "stages", "arrivals",
    "limit" or "failure".
    """
    job = json.loads(request)
    if job["job"] in JOBS:
        answer(_answer(*JOBS[job["job"]](job)))
        return
    trial = Trial(TrialSpec.model_validate(job["spec"]))
    try:
        if job["job"] == "data":
            line = json.dumps({"data": trial.read(job["most_s"], job.get("stages"))})
        else:
            line = _answer("measurement", trial.run())
    except Exception as error:
        traceback.print_exc()
        line = _answer("failure", trial.failure(error))
    answer(line)  # before the trial is deleted, and its iterator with it, which may take seconds


def serve(request: str, result_fd: int) -> None:
    """Runs the job, writes its answer to `result_fd` and exits without any clean-up.

    A tf.data iterator over an endless generator can hang the interpreter's shutdown.
    """
    status = 1
    # The runner asks for the stacks before it kills a trial that hangs. The handler is native code,
    # so it also works if something holds the GIL.
    faulthandler.register(STACKS_SIGNAL, file=STDERR, all_threads=True)
    # Processes that the generator starts must not keep the pipe open once this process is killed.
    os.set_inheritable(result_fd, False)
    os.register_at_fork(after_in_child=lambda: os.close(result_fd))

    def answer(line: str) -> None:
        nonlocal status
        # Now, because the runner may kill this process once it has the answer.
        remove_scratch()
        remove_names()
        remove_leftovers()
        with open(result_fd, "w", encoding="utf-8") as pipe:
            pipe.write(line + "\n")
        status = 0

    give_own_folder()
    try:
        script = _script(request)
        if script is None:
            run_job(request, answer)
        else:
            _run_in_script(script, request, answer)
    except BaseException:
        traceback.print_exc()
    finally:
        _exit(status)


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _script(request: str) -> Target | None:
    """The training script that the job is about; None for any other pipeline."""
    target = Target.parse(catalog.resolve(_part(request, "pipeline")))
    return target if target.is_script else None


def _part(request: str, name: str) -> Any:
    job = json.loads(request)
    return job[name] if name in job else job["spec"][name]


def _run_in_script(script: Target, request: str, answer: Callable[[str], None]) -> None:
    """Does the job inside of the script's `fit`, and ends the process there."""

    def then() -> NoReturn:
        status = 1
        try:
            run_job(request, answer)
            status = 0
        except BaseException:  # the script must not catch it
            traceback.print_exc()
        finally:
            _exit(status)

    try:
        select_device_for(str(script), _part(request, "device"))
        keras.utils.set_random_seed(_part(request, "seed"))
        run_to_fit(script, then)
    except (PipelineError, DeviceError) as error:
        answer(_answer("failure", TrialFailure(kind="usage", detail=str(error))))


def _inspect(job: dict[str, Any]) -> tuple[str, PipelineInfo | TrialFailure]:
    try:
        device = select_device_for(job["pipeline"], job["device"])
        return "info", inspect_pipeline(job["pipeline"], job["seed"], device)
    except (PipelineError, DeviceError) as error:
        return "failure", TrialFailure(kind="usage", detail=str(error))
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        detail = f"{job['pipeline']} cannot be inspected: {type(error).__name__}: {error}"
        return "failure", TrialFailure(kind="usage", detail=detail.split("\n", maxsplit=1)[0])


def _stages(job: dict[str, Any]) -> tuple[str, StageCosts | TrialFailure]:
    try:
        select_device_for(job["pipeline"], job["device"])
        keras.utils.set_random_seed(job["seed"])
        pipeline = catalog.load(job["pipeline"])
        if isinstance(pipeline, BatchesPipeline) and not isinstance(pipeline, ChainPipeline):
            return "stages", PyDatasetStages(pipeline, job["seed"]).measure()
        costs = Stages(pipeline, job["seed"]).measure()
        if job.get("cluster") and isinstance(pipeline, GeneratorPipeline):
            # Ray is an extra, and takes a second to import.
            from prefetch_tuning.objectives.stages.other_nodes import (  # noqa: PLC0415
                measure_other_nodes,
            )

            others = measure_other_nodes(pipeline, job["seed"], job["cluster"])
            costs = costs.model_copy(update={"elsewhere": others})
        return "stages", costs
    except Exception as error:
        traceback.print_exc()
        detail = f"{job['pipeline']} cannot be diagnosed: {quote(error)}"
        return "failure", TrialFailure(kind="usage", detail=detail)


def _arrivals(job: dict[str, Any]) -> tuple[str, Arrivals | TrialFailure]:
    try:
        select_device("cpu")  # nothing runs on a device
        pipeline = catalog.load(job["pipeline"])
        if isinstance(pipeline, ChainPipeline):
            pipeline = pipeline.source
        if isinstance(pipeline, BatchesPipeline):
            raise PipelineError("it makes whole batches, so no element arrives alone")
        elements = SourceMonitor(pipeline, job["seed"]).endless()
        return "arrivals", record_arrivals(
            elements, job["most_s"], job["most_pauses"], time.perf_counter
        )
    except Exception as error:
        traceback.print_exc()
        detail = f"the elements of {job['pipeline']} cannot be timed: {quote(error)}"
        return "failure", TrialFailure(kind="usage", detail=detail)


def _limit(job: dict[str, Any]) -> tuple[str, LimitTerms | TrialFailure]:
    try:
        select_device_for(job["pipeline"], job["device"])
        keras.utils.set_random_seed(job["seed"])
        pipeline = catalog.load(job["pipeline"])
        terms = measure_limit_terms(
            pipeline,
            job["batch_size"],
            job["seed"],
            vectorized=job["vectorized"],
            cached=job.get("cached", False),
        )
        return "limit", terms
    except Exception as error:
        traceback.print_exc()
        detail = f"the limit of {job['pipeline']} cannot be measured: {quote(error)}"
        return "failure", TrialFailure(kind="usage", detail=detail)


JOBS: dict[str, Callable[[dict[str, Any]], tuple[str, BaseModel]]] = {
    "inspect": _inspect,
    "stages": _stages,
    "arrivals": _arrivals,
    "limit": _limit,
}


def _answer(key: str, value: BaseModel) -> str:
    return json.dumps({key: value.model_dump(mode="json")})


if __name__ == "__main__":  # the fork server starts this where forking isn't safe
    serve(sys.argv[2], int(sys.argv[1]))
