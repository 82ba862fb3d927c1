"""Functions that build their own dataset, and PyDatasets: both are measured as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prefetch_tuning.experiments.search.axes import WAITING_WORKERS
from prefetch_tuning.objectives.checks.inspection import inspect_pipeline
from prefetch_tuning.objectives.measurement import Measurement
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import STRUCTURE, PipelineConfig
from prefetch_tuning.pipelines.source import BatchesPipeline, PipelineError
from tests.planted.chains import Waiting
from tests.process.test_runner import QUICK
from tests.test_cli import prefetch_tune

CHAIN = "tests.planted.chains:make_dataset,model=tests.planted.chains:make_model"
WAITING = "tests.planted.chains:Waiting,step=1ms"
WAITING_LONG = "tests.planted.chains:WaitingLong,step=1ms"


def load(target: str) -> BatchesPipeline:
    found = catalog.load(target)
    assert isinstance(found, BatchesPipeline)
    return found


def measured(runner: TrialRunner, target: str, config: PipelineConfig) -> Measurement:
    spec = TrialSpec(pipeline=target, config=config, device="cpu", stop=QUICK)
    result = runner.measure(spec)
    assert isinstance(result, Measurement), result
    return result


def test_a_function_of_a_configuration_follows_it_and_starts_again() -> None:
    config = PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=3)

    dataset = build_dataset(load(CHAIN), config)
    batches = [features.numpy()[:, 0].tolist() for features, _ in dataset.take(4)]

    assert batches == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18], [0, 2, 4, 6]]
    assert dataset.options().autotune.enabled is False
    assert build_dataset(load(CHAIN), PipelineConfig.autotune(4)).options().autotune.enabled is None


def test_what_the_axes_of_a_chain_are() -> None:
    info = inspect_pipeline(CHAIN, 0, "cpu")

    assert (info.kind, info.axes) == ("batches", ["map_parallelism"])
    assert info.not_offered.keys() == set(STRUCTURE)


def test_short_batches_count_as_what_they_hold(runner: TrialRunner) -> None:
    config = PipelineConfig(batch_size=32, prefetch_buffer=1, map_parallelism=1)

    found = measured(runner, "tests.planted.chains:make_dataset,step=1ms", config)

    # An epoch has 10 rows, so each batch of 32 has only 10.
    steps = found.steps_per_s
    assert found.examples_per_s == pytest.approx(10 * steps, rel=1e-3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests.planted.chains:deaf,step=1ms", "gave a batch of 8 when asked for batches of 2"),
        ("tests.planted.chains:no_dataset,step=1ms", "must return a tf.data.Dataset"),
        ("tests.planted.chains:make_dataset", "give --model"),
        (
            "tests.planted.chains:make_dataset,map=tests.planted.chains:rows,step=1ms",
            "leave out --map",
        ),
        ("tests.planted.chains:NeedsArguments,step=1ms", "name that as module:instance"),
        ("tests.planted.chains:Waiting", "give --model"),
    ],
)
def test_what_cannot_be_tuned_says_why(target: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        inspect_pipeline(target, 0, "cpu")


def test_a_py_dataset_has_kerass_own_axes_and_keeps_what_it_was_made_with() -> None:
    info = inspect_pipeline("tests.planted.chains:made,step=1ms", 0, "cpu")

    assert info.axes == ["workers", "use_multiprocessing", "max_queue_size"]
    assert info.own == {"workers": 3, "use_multiprocessing": False, "max_queue_size": 4}
    assert info.batch_sizes == [8]


@pytest.mark.parametrize(
    "config",
    [
        PipelineConfig.autotune(8),
        PipelineConfig.autotune(8, workers=3),
        PipelineConfig(batch_size=8, prefetch_buffer=0, map_parallelism=1, workers=4),
        PipelineConfig(
            batch_size=8,
            prefetch_buffer=2,
            map_parallelism=1,
            workers=2,
            use_multiprocessing=True,
            max_queue_size=2,
        ),
    ],
    ids=str,
)
def test_a_py_dataset_gives_its_batches_in_order_epoch_after_epoch(config: PipelineConfig) -> None:
    dataset = build_dataset(load(WAITING), config)

    count = Waiting.BATCHES
    batches = [features.numpy() for features, _ in dataset.take(count + 2)]

    assert [int(batch[0, 0]) for batch in batches] == [*range(count), 0, 1]
    assert [len(batch) for batch in batches] == [8] * (count - 1) + [4, 8, 8]
    assert all(np.unique(batch).size == 1 for batch in batches)


def test_autotune_on_kerass_own_queue_is_measured(runner: TrialRunner) -> None:
    """Keras switches tf.data's AUTOTUNE off for its own queue, so there are no choices to read."""
    config = PipelineConfig.autotune(8, workers=3, max_queue_size=4)
    found = measured(runner, WAITING, config)

    assert found.autotune == []
    assert found.examples_per_s > 0.0


@pytest.mark.timing
def test_workers_hide_the_waiting_of_a_py_dataset(runner: TrialRunner) -> None:
    plain = PipelineConfig(batch_size=8, prefetch_buffer=1, map_parallelism=1)
    one = measured(runner, WAITING_LONG, plain)
    four = measured(runner, WAITING_LONG, plain.model_copy(update={"workers": 4}))

    # Planted: 4 reads of 20 ms wait at once, not one after another. The speed-up is far from noise.
    assert four.examples_per_s / one.examples_per_s > 2


@pytest.mark.slow
def test_a_py_dataset_is_tuned_by_one_command(tmp_path: Path) -> None:
    mine = "from tests.planted.chains import Waiting\n"
    (tmp_path / "mine.py").write_text(mine, encoding="utf-8")
    options = ["--step-time", "1ms", "--trials", "2", "--no-confirm", "--json", "result.json"]

    done = prefetch_tune(tmp_path, "tune", "mine:Waiting", *options)

    assert done.returncode == 0, done.stderr
    assert "limited by waiting in __getitem__" in done.stderr
    (result,) = json.loads((tmp_path / "result.json").read_text())
    assert result["best"]["config"]["workers"] in WAITING_WORKERS
    assert result["trials"]["complete"] >= 1
