"""The lines to change in a training script."""

from __future__ import annotations

from prefetch_tuning.experiments.report.script_snippet import changed_lines, run_command
from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.target import Target
from tests.support import report_records
from tests.support.fakes import INFO

CALLS = [
    ("from_generator", "train.py:20"),
    ("map", "train.py:22"),
    ("batch", "train.py:23"),
    ("map", "train.py:24"),
    ("prefetch", "train.py:25"),
]
SCRIPT = INFO.model_copy(
    update={"target": "train.py", "calls": CALLS, "batch_sizes": [32], "chain": "from_generator"}
)


def test_each_call_that_changes_has_its_place() -> None:
    config = PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=8)

    assert changed_lines(config, SCRIPT)[:4] == [
        ".map(..., num_parallel_calls=8)  # train.py:22",
        ".map(..., num_parallel_calls=8)  # train.py:24",
        ".prefetch(4)  # at the end of the chain, in place of its own",
        ".with_options(options)  # the last call, with:",
    ]


def test_autotune_needs_no_options() -> None:
    sized = SCRIPT.model_copy(update={"target": "train.py,sizes=32/64", "batch_sizes": [32, 64]})
    assert changed_lines(PipelineConfig.autotune(64), sized) == [
        ".map(..., num_parallel_calls=tf.data.AUTOTUNE)  # train.py:22",
        ".batch(64, ...)  # train.py:23",
        ".map(..., num_parallel_calls=tf.data.AUTOTUNE)  # train.py:24",
        ".prefetch(tf.data.AUTOTUNE)  # at the end of the chain, in place of its own",
    ]


def test_a_sequential_map_is_said() -> None:
    config = PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=1)

    assert (
        changed_lines(config, SCRIPT)[0] == ".map(...)  # train.py:22, without num_parallel_calls"
    )


def test_the_command_is_that_of_the_same_fit_with_the_same_arguments() -> None:
    target = Target(main="my train.py", fit=2, args=("--images", "4000"))

    assert run_command(target) == "prefetch-tune run 'my train.py' --fit 2 -- --images 4000"
    assert run_command(Target(main="train.py")) == "prefetch-tune run train.py"


def test_a_script_as_written_has_no_lines_to_change() -> None:
    record = report_records.full()
    assert record.result.recommended is not None
    chosen = record.result.recommended.model_copy(update={"config": PipelineConfig.written(32)})
    result = record.result.model_copy(update={"recommended": chosen})
    text = snippet(record.model_copy(update={"info": SCRIPT, "result": result}))

    assert changed_lines(chosen.config, SCRIPT) == []
    assert "# Nothing needs to change." in text


def test_blocks_need_the_command() -> None:
    record = report_records.full()
    assert record.result.recommended is not None
    config = PipelineConfig(
        batch_size=32, prefetch_buffer=4, map_parallelism=1, generator_chunk=64, cache=True
    )
    chosen = record.result.recommended.model_copy(update={"config": config})
    result = record.result.model_copy(update={"recommended": chosen})
    text = snippet(record.model_copy(update={"info": SCRIPT, "result": result}))

    assert "# Without a change to the script: prefetch-tune run train.py" in text
    assert "in blocks of 64 needs this project's code" in text
    assert ".cache()  # right after it: train.py:20" in text
    compile(text, "snippet.py", "exec")


def test_another_order_is_an_option() -> None:
    config = PipelineConfig.autotune(32).model_copy(update={"reorder": True})

    assert changed_lines(config, SCRIPT)[-2:] == [
        "    options = tf.data.Options()",
        "    options.deterministic = False  # calls that are done overtake slower ones",
    ]


def test_a_py_dataset_has_its_arguments() -> None:
    info = SCRIPT.model_copy(update={"calls": [], "own": {"workers": 1}})
    config = PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=1, workers=8)

    assert changed_lines(PipelineConfig.autotune(32), info) == []
    assert changed_lines(config, info) == [
        "workers=8, use_multiprocessing=False, max_queue_size=10  # arguments of the PyDataset",
        "# prefetch(4) behind them is only in the command above",
    ]


def test_a_generator_of_batches_gets_a_dataset_around_it() -> None:
    info = SCRIPT.model_copy(update={"calls": [], "element_spec": "(tf.TensorSpec((8,)),)"})
    config = PipelineConfig(batch_size=8, prefetch_buffer=4, map_parallelism=1)

    assert changed_lines(config, info)[:5] == [
        "tf.data.Dataset.from_generator(  # around the generator that fit gets",
        "    lambda: generator, output_signature=(tf.TensorSpec((8,)),)",
        ")",
        ".prefetch(4)  # then",
        ".with_options(options)  # the last call, with:",
    ]
