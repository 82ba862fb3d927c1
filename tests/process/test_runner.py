"""Real trial processes with real faults: each fault costs its own trial and nothing else."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.process.answer import hangs_in
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule, TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig

QUICK = StopRule(window_s=0.02, startup_s=0.05, min_windows=4, max_s=0.2, target_half_width=0.2)


def spec(name: str, **changes: object) -> TrialSpec:
    fields: dict[str, object] = {
        "pipeline": f"tests.planted.pipelines:{name}",
        "config": PipelineConfig(batch_size=4, prefetch_buffer=1, map_parallelism=1),
        "device": "cpu",
        "stop": QUICK,
        **changes,
    }
    return TrialSpec.model_validate(fields)


def failure(runner: TrialRunner, trial: TrialSpec) -> TrialFailure:
    result = runner.measure(trial)
    assert isinstance(result, TrialFailure), "the planted fault did not happen"
    return result


def measured(runner: TrialRunner, trial: TrialSpec) -> Measurement:
    result = runner.measure(trial)
    assert isinstance(result, Measurement), result
    return result


def test_a_trial_leaves_no_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # The paths of pytest's own folders are too long for sockets.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)  # of the server that starts next
        monkeypatch.setattr(tempfile, "tempdir", folder)  # where the runner looks
        with TrialRunner() as fresh:
            measured(fresh, spec("Managed"))
            costs = fresh.measure_stages(spec("Managed").pipeline, 0, "cpu")
            assert isinstance(costs, StageCosts)
            failure(fresh, spec("Hanging", deadline_s=5.0))
        # The lock that takes turns with other programs stays.
        assert [path.name for path in Path(folder).iterdir()] == ["prefetch-tuning.lock"]


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("Faulty", "generator", "KeyError: 'lost sample 50'"),
        ("Crashing", "crash", "crashed with SIGSEGV"),
        ("Exhausted", "out_of_memory", "MemoryError: no room for sample 50"),
        ("Exploding", "nan_loss", "the loss is inf"),
        ("BrokenMap", "transform", "RuntimeError: no such augmentation"),
        ("NoModel", "model", "AttributeError"),
        ("WrongModel", "model", "ValueError"),
        ("Empty", "usage", "ended without yielding an element"),
        ("Missing", "usage", "has no attribute 'Missing'"),
    ],
)
def test_a_fault_has_its_kind_and_its_reason(
    runner: TrialRunner, name: str, kind: str, detail: str
) -> None:
    found = failure(runner, spec(name))

    assert (found.kind, detail in found.detail) == (kind, True), found


def test_the_last_output_of_a_trial_that_fails_is_kept(runner: TrialRunner) -> None:
    assert "about to crash" in failure(runner, spec("Crashing")).output
    assert "Traceback" in failure(runner, spec("Faulty")).output


def test_a_hang_ends_at_the_deadline(runner: TrialRunner) -> None:
    found = failure(runner, spec("Hanging", deadline_s=3.0))

    assert found.kind == "timeout"
    assert re.fullmatch(
        r"no result within 3 s; killed; it was in fail \(pipelines\.py, line \d+\)", found.detail
    )
    # The stacks of all threads, with the generator's among them.
    assert "Current thread" in found.output or "Thread 0x" in found.output
    assert "in generate" in found.output


def test_a_place_in_a_library_is_not_the_user_s() -> None:
    stack = (
        "Thread 0x1 (most recent call first):\n"
        '  File "/usr/lib/python3.11/socket.py", line 706 in readinto\n'
        '  File "/home/u/.venv/lib/python3.11/site-packages/x/y.py", line 5 in get\n'
        '  File "/home/u/pipelines/rows.py", line 12 in rows\n'
        '  File "/home/u/train.py", line 3 in main\n'
    )

    assert hangs_in(stack) == "; it was in rows (rows.py, line 12)"
    assert hangs_in("Fatal Python error") == ""


def test_memory_beyond_the_cap_ends_the_trial(runner: TrialRunner) -> None:
    endless = QUICK.model_copy(update={"min_windows": 1_000})
    found = failure(runner, spec("Hungry", host_cap_mib=1_500.0, stop=endless))

    assert found.kind == "out_of_memory"
    assert "over the cap of 1500 MiB" in found.detail


def trial_of(parent: int) -> psutil.Process:
    """Waits for a trial to run under this process's fork server; returns it."""
    for _ in range(200):
        for server in psutil.Process(parent).children():
            # Generator processes of other tests have a different fork server.
            if (
                "prefetch_tuning.objectives.process.fork_server" in " ".join(server.cmdline())
                and server.children()
            ):
                return server.children()[0]
        time.sleep(0.05)
    raise AssertionError("no trial started")


def test_killing_a_trial_from_outside_costs_that_trial_only(runner: TrialRunner) -> None:
    measured(runner, spec("Planted"))  # so that the server is ready
    killer = threading.Thread(target=lambda: trial_of(os.getpid()).kill())
    killer.start()

    found = failure(runner, spec("Hanging"))
    killer.join()

    assert found.kind == "killed"
    assert "SIGKILL" in found.detail
    measured(runner, spec("Planted"))


def test_killing_the_fork_server_costs_that_trial_only() -> None:
    def kill_server() -> None:
        server = trial_of(os.getpid()).parent()
        assert server is not None
        server.kill()

    with TrialRunner() as own:
        measured(own, spec("Planted"))
        killer = threading.Thread(target=kill_server)
        killer.start()
        assert failure(own, spec("Hanging")).kind == "crash"
        killer.join()
        measured(own, spec("Planted"))


def test_nothing_outlives_the_runner() -> None:
    before = set(psutil.Process().children(recursive=True))
    with TrialRunner() as own:
        measured(own, spec("Planted"))
        started = set(psutil.Process().children(recursive=True)) - before

    assert started
    assert not any(process.is_running() for process in started)


def test_where_forking_is_not_safe_a_new_interpreter_measures_the_same() -> None:
    with TrialRunner(fork=False) as spawning:
        result = measured(spawning, spec("Planted"))

    assert not spawning.forks
    assert result.device == "cpu"
    assert result.examples_per_s > 0


def test_a_child_that_outlives_its_trial_does_not_hide_the_trials_end(runner: TrialRunner) -> None:
    begin = time.monotonic()

    found = failure(runner, spec("Orphaning"))

    assert found.kind == "killed"
    assert time.monotonic() - begin < 30  # the deadline is 90 s


def test_each_trial_is_a_fresh_process(runner: TrialRunner) -> None:
    # The class yields how often it was made in its process, so a process used twice would show.
    first, second = (measured(runner, spec("Stateful")) for _ in range(2))

    assert first.digest == second.digest


def test_a_forked_child_counts_with_what_it_took_itself(runner: TrialRunner) -> None:
    patient = QUICK.model_copy(update={"startup_s": 1.5})
    alone = measured(runner, spec("Planted", stop=patient)).host_peak_mib
    together = measured(runner, spec("WithChild", stop=patient)).host_peak_mib

    # 100 MiB and its share of the common pages, but not all of TensorFlow a second time.
    assert 100 < together - alone < 400


def test_a_trial_leaves_no_semaphore_and_no_socket(runner: TrialRunner) -> None:
    """A declared chain starts its processes as training does; a trial ends without clean-up."""

    def names() -> set[str]:
        folders = (Path("/dev/shm"), Path(tempfile.gettempdir()))
        return {path.name for folder in folders for path in folder.glob("*mp-*")}

    config = {"batch_size": 4, "prefetch_buffer": 1, "map_parallelism": 1, "generator_workers": 2}
    before = names()
    measured(runner, spec("ShardedChain", config=PipelineConfig.model_validate(config)))

    assert names() <= before


@pytest.mark.timing  # beside other work, the batches that were ready when it ended are miscounted
def test_memory_is_what_the_input_pipeline_adds(runner: TrialRunner) -> None:
    # A batch of Wide is 4 MiB, so a full buffer of 16 holds 64 MiB. TensorFlow, the model and its
    # tracing take more than that, and don't count.
    lean, held = (
        measured(runner, spec("Wide", config=wide(prefetch))).host_peak_mib for prefetch in (1, 16)
    )

    assert 4.0 <= lean < 40.0
    assert 64.0 <= held < 64.0 + lean + 20.0


def wide(prefetch: int) -> PipelineConfig:
    return PipelineConfig(batch_size=4, prefetch_buffer=prefetch, map_parallelism=1)


def test_a_model_that_only_its_own_train_step_can_build(runner: TrialRunner) -> None:
    assert measured(runner, spec("Adversarial")).loss > 0


def test_plain_lists_are_tensors_written_out(runner: TrialRunner) -> None:
    lists, arrays = (measured(runner, spec(name)) for name in ("Lists", "Planted"))

    assert lists.digest == arrays.digest


def test_the_digest_tells_seeds_apart(runner: TrialRunner) -> None:
    first, second = (measured(runner, spec("Planted", seed=seed)) for seed in (1, 2))

    assert first.digest.elements != second.digest.elements
    assert first.digest.batches != second.digest.batches


def test_a_finite_generator_starts_over_and_is_counted(runner: TrialRunner) -> None:
    result = measured(runner, spec("Finite"))
    examples = sum(w.examples for w in result.windows)

    assert result.generator_restarts >= examples // 10


def test_skipped_elements_are_counted(runner: TrialRunner) -> None:
    trial = spec("Planted").model_copy(
        update={"pipeline": "prefetch_tuning.pipelines.builtin.noisy:NoisyPipeline"}
    )

    result = measured(runner, trial)

    examples = sum(w.examples for w in result.windows)
    assert 0 < result.skipped_elements < examples
    assert "skipped faulty sample 1: reading" in result.output


def test_a_models_own_train_step_is_what_runs(runner: TrialRunner) -> None:
    assert measured(runner, spec("OwnStep")).loss == 42.0


def test_unknown_dimensions_are_padded(runner: TrialRunner) -> None:
    assert measured(runner, spec("Ragged")).examples_per_s > 0


def test_autotune_reports_what_it_chose(runner: TrialRunner) -> None:
    trial = spec("Mapped", config=PipelineConfig.autotune(4))
    trial = trial.model_copy(update={"stop": QUICK.model_copy(update={"warmup_max_s": 1.0})})

    chosen = {(n.parameter, n.value >= 1) for n in measured(runner, trial).autotune}

    assert chosen == {("buffer_size", True), ("parallelism", True)}


def test_a_trial_has_a_process_group_of_its_own(runner: TrialRunner) -> None:
    measured(runner, spec("Planted"))
    groups: list[tuple[int, int, int]] = []

    def look() -> None:
        trial = trial_of(os.getpid())
        time.sleep(0.2)  # the trial makes its group just after the fork
        groups.append((trial.pid, os.getpgid(trial.pid), os.getpgid(trial.ppid())))
        trial.kill()

    looker = threading.Thread(target=look)
    looker.start()
    failure(runner, spec("Hanging"))
    looker.join()

    [(pid, own_group, servers_group)] = groups
    assert own_group == pid
    assert servers_group not in (own_group, os.getpgid(0))
