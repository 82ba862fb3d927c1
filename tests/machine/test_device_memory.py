"""Trials that run out of GPU memory: how they are classified, and what the search does."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import tensorflow as tf
from optuna.trial import TrialState

from prefetch_tuning.experiments.report.conclusion import result_of, study_record
from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.trial_rows import all_failed
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.round_runs import RoundRuns
from prefetch_tuning.experiments.study.search import DEVICE_CONSTRAINT, Search
from prefetch_tuning.experiments.study.work import carry_out
from prefetch_tuning.objectives.loop.training import StepError
from prefetch_tuning.objectives.machine.device_memory import device_memory_line
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.process.trial import Trial
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.study.test_study import SETTINGS, Bench
from tests.support.fakes import INFO, FakeRunner, FakeTracker, measurement

OOM = (
    "OOM when allocating tensor with shape[512,4096] and type float on "
    "/job:localhost/replica:0/task:0/device:GPU:0 by allocator GPU_0_bfc"
)
LACKING = TrialFailure(kind="device_oom", detail=f"ResourceExhaustedError: {OOM}")
SPEC = TrialSpec(
    pipeline="tests.planted.pipelines:Planted",
    config=PipelineConfig(batch_size=256, prefetch_buffer=1, map_parallelism=1),
)
SIZES = [64, 128, 256, 512]
# The smallest batch size for which the planted GPU lacks memory.
TOO_LARGE = 256


@pytest.mark.parametrize(
    "message",
    [
        f"{OOM} [Op:MatMul]",
        OOM.replace("GPU_0_bfc", "gpu_async_0"),
        "failed to allocate memory [Op:AddV2]",
        "Failed copying input tensor from /job:localhost/replica:0/task:0/device:CPU:0 to "
        "/job:localhost/replica:0/task:0/device:GPU:0 in order to run _EagerConst: Dst tensor is "
        "not initialized.",
        "Out of memory while trying to allocate 68852648264 bytes.",
        "Out of memory allocating 2147483648 bytes.",
        "Failed to load in-memory CUBIN: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "cudaSetDevice() on GPU:0 failed. Status: out of memory",
        "failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED",
        "Failed to create cuBLAS handle: the resource allocation failed",
        "Could not create cudnn handle: CUDNN_STATUS_ALLOC_FAILED",
        "CUDNN failed to allocate the scratch space for the runner",
    ],
)
def test_the_words_for_it_are_found_on_whatever_line_they_stand(message: str) -> None:
    whole = (
        f"Graph execution error:\n\nDetected at node model/dense\n  {message}\n\t [[{{node x}}]]"
    )

    assert device_memory_line(message) == message
    assert device_memory_line(whole) == message


@pytest.mark.parametrize(
    "message",
    [
        OOM.replace("device:GPU:0 by allocator GPU_0_bfc", "device:CPU:0 by allocator cpu"),
        OOM.replace("GPU_0_bfc", "gpu_host_bfc"),  # pinned memory belongs to the host
        "MemoryError: Unable to allocate 184. MiB for an array",
        "Matrix size-incompatible: In[0]: [4,3], In[1]: [4,3]",
        "CUDNN_STATUS_NOT_SUPPORTED",
        "",
    ],
)
def test_other_errors_are_not_about_the_gpus_memory(message: str) -> None:
    assert device_memory_line(message) is None


def failure(error: Exception, device: str = "gpu: NVIDIA H100") -> TrialFailure:
    trial = Trial(SPEC)
    trial.device = device
    return trial.failure(error)


def in_step(error: Exception) -> StepError:
    found = StepError(str(error))
    found.__cause__ = error
    return found


def test_a_step_that_lacks_the_gpus_memory_says_so_in_its_own_words() -> None:
    message = f"Graph execution error:\n\nDetected at node dense\n{OOM}\n\t [[{{node dense}}]]"
    exhausted = tf.errors.ResourceExhaustedError(None, None, message)
    internal = tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory")

    assert failure(in_step(exhausted)) == LACKING
    assert failure(exhausted) == LACKING  # a copy to the device, outside the step
    assert failure(internal).kind == "device_oom"


def test_the_hosts_memory_is_the_hosts() -> None:
    on_host = OOM.replace("device:GPU:0 by allocator GPU_0_bfc", "device:CPU:0 by allocator cpu")
    xla = tf.errors.ResourceExhaustedError(None, None, "Out of memory allocating 9 bytes.")

    on_gpu = failure(tf.errors.ResourceExhaustedError(None, None, on_host))
    assert on_gpu.kind == "out_of_memory"
    assert failure(MemoryError("no room")).kind == "out_of_memory"
    assert failure(xla, "cpu").kind == "out_of_memory"  # XLA uses the same words on a CPU
    assert failure(xla).kind == "device_oom"


def test_another_error_of_the_step_stays_the_models() -> None:
    found = failure(in_step(tf.errors.InternalError(None, None, "no kernel image")))

    assert (found.kind, found.detail) == ("model", "InternalError: no kernel image")


def test_the_trial_is_infeasible_on_both_sides_and_has_no_value(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LACKING, measurement(1_000.0))

    outcomes = [Search(bench.study).run_trial() for _ in range(2)]

    assert [(o.state, o.failure) for o in outcomes] == [("infeasible", LACKING), ("complete", None)]
    assert [state for _, state in bench.tracker.logged] == ["infeasible", "complete"]
    lacking, complete = bench.study.optuna_study.trials
    assert (lacking.state, lacking.value, lacking.intermediate_values) == (
        TrialState.PRUNED,
        None,
        {},
    )
    assert lacking.constraints == {DEVICE_CONSTRAINT: float(outcomes[0].config.batch_size)}
    assert DEVICE_CONSTRAINT not in complete.constraints
    assert bench.study.kept.counts.infeasible == 1
    assert bench.study.kept.best is not None
    assert bench.study.kept.best.examples_per_s == 1_000.0


def test_a_pipeline_that_starts_too_large_is_not_given_up(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LACKING, LACKING, LACKING)
    for _ in range(3):
        Search(bench.study).run_trial()

    assert all_failed(bench.study.kept.finished) is None


def test_batches_copied_ahead_do_not_condemn_the_batch_size(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LACKING, LACKING, measurement(1_000.0))
    kept, ahead = bench.study.kept, {"device_prefetch": 2}
    copied = PipelineConfig.no_prefetch(8).model_copy(update=ahead)
    configs = [copied, PipelineConfig.no_prefetch(8), PipelineConfig.no_prefetch(8)]
    space = SimpleNamespace(suggest=lambda trial: configs.pop(0), plain={}, batch_sizes=(8,))
    bench.study.__dict__["offer"] = SimpleNamespace(space=space)

    Search(bench.study).run_trial()
    assert kept.lacking_device_memory is None
    assert not Search(bench.study).nothing_fits

    Search(bench.study).run_trial()
    assert kept.lacking_device_memory == 8

    Search(bench.study).run_trial()  # another process may have had the memory
    assert kept.lacking_device_memory is None


def test_a_candidate_that_lacks_the_gpus_memory_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LACKING)

    piece = RoundRuns(bench.study).run_candidate("autotune", PipelineConfig.autotune(8), 0)

    assert carry_out(piece, bench.runner) == LACKING
    assert [state for _, state in bench.tracker.logged] == ["failed"]


class SmallGpu(FakeRunner):
    """Planted: larger batches are faster, but lack memory from `TOO_LARGE` on."""

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        if spec.config.batch_size >= TOO_LARGE:
            return LACKING
        return measurement(1_000.0 + spec.config.batch_size)


def searched(seed: int, trials: int) -> tuple[PipelineStudy, list[int]]:
    """An in-memory study, and the batch sizes of its trials."""
    kept = optuna.create_study(direction="maximize")
    runner = SmallGpu([])
    info = INFO.model_copy(update={"batch_sizes": SIZES})
    settings = SETTINGS.model_copy(update={"seed": seed})
    study = PipelineStudy(kept, info, settings, runner, FakeTracker(), {})
    study.begin()
    search = Search(study)
    search.begin()
    for _ in range(trials):
        search.run_trial()
    return study, [spec.config.batch_size for spec in runner.specs]


@pytest.mark.parametrize("seed", range(3))
def test_the_sampler_leaves_such_batch_sizes_alone(seed: int) -> None:
    """After one that lacked memory, no batch is as large."""
    _, sizes = searched(seed, 24)
    lacking = [size for size in sizes if size >= TOO_LARGE]

    assert len(sizes) == 24
    assert len(lacking) <= len([size for size in SIZES if size >= TOO_LARGE])
    assert lacking == sorted(set(lacking), reverse=True)
    assert max(size for size in SIZES if size < TOO_LARGE) in sizes


def recorded(study: PipelineStudy) -> StudyRecord:
    return study_record(study.optuna_study, result_of(study.kept, 1.0, 2.0))


def test_a_report_has_such_trials_without_a_rate() -> None:
    study, sizes = searched(0, 12)
    lacking = sum(size >= TOO_LARGE for size in sizes)

    record = recorded(study)

    assert 0 < lacking < 12
    assert f"{lacking} over a memory limit" in Report(record).markdown()
    assert Report(record).html().count("by allocator GPU_0_bfc") >= lacking


def test_a_study_knows_when_not_even_the_smallest_batch_fits(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *[LACKING] * 8)
    smallest = min(bench.study.offer.space.batch_sizes)
    for _ in range(8):
        outcome = Search(bench.study).run_trial()
        if outcome.config.batch_size == smallest:
            break
        assert not Search(bench.study).nothing_fits

    assert outcome.config.batch_size == smallest
    assert Search(bench.study).nothing_fits


def test_a_report_of_nothing_but_such_trials_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path, *[LACKING] * 4)
    for _ in range(4):
        Search(bench.study).run_trial()

    record = recorded(bench.study)

    assert record.result.best is None
    assert "4 over a memory limit" in Report(record).markdown()
    assert "by allocator GPU_0_bfc" in Report(record).html()


def test_its_run_says_infeasible_and_quotes_the_error(tmp_path: Path) -> None:
    store = Store.choose(tmp_path, None, None)
    store.create()
    tracker = Tracker(store)
    parent = tracker.start_study("simple", "a study", {})

    run_id = tracker.log_trial(parent, "#00", SPEC, LACKING, "infeasible", {}, 1_700_000_000.0)

    run = tracker.read(run_id)
    assert (run.status, run.tags["state"]) == ("FINISHED", "infeasible")
    assert run.tags["failure.kind"] == "device_oom"
    assert OOM in run.tags["failure.detail"]
    assert "needs more memory than the GPU has" in run.tags["mlflow.note.content"]
    assert run.metrics == {}


def test_a_resumed_study_still_knows_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path, LACKING)
    Search(bench.study).run_trial()

    row = StudyAttributes(bench.open().optuna_study).rows[0]

    assert (row.state, row.failure, row.measured) == ("infeasible", LACKING, None)
