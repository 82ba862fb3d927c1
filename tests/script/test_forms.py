"""Scripts in the forms that users write: each is found at its `fit`, with its own batches."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.fit import FitCall
from prefetch_tuning.pipelines.script.pipeline import GivenBatches, ScriptPipeline
from prefetch_tuning.pipelines.script.scratch import make_scratch, remove_scratch, scratch
from prefetch_tuning.pipelines.script.tuned import changes
from tests.support.scripts import FILE, at_fit, pipeline_in, some_batches

# More than an epoch of most of them.
COUNT = 8
FORMS = {
    "module level": """
dataset = tf.data.Dataset.from_generator(rows, output_signature=SPEC).batch(8).prefetch(2)
make_model().fit(dataset, epochs=2, verbose=0)
""",
    "main with argparse": """
import argparse

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int)
    size = parser.parse_args().size
    def closure():
        yield from rows(count=40)
    dataset = tf.data.Dataset.from_generator(closure, output_signature=SPEC)
    make_model().fit(dataset.batch(size, drop_remainder=True), epochs=2, verbose=0)

if __name__ == "__main__":
    main()
""",
    "callable object": """
class Rows:
    def __init__(self, count):
        self.count = count
    def __call__(self):
        return rows(self.count)

dataset = tf.data.Dataset.from_generator(Rows(40), output_signature=SPEC)
make_model().fit(dataset.shuffle(16).map(lambda x, y: (x / 10, y)).batch(8), verbose=0)
""",
    "bound method": """
class Data:
    def rows(self):
        return rows()

types = (tf.float32, tf.float32)
dataset = tf.data.Dataset.from_generator(Data().rows, types, output_shapes=((3,), ()))
make_model().fit(dataset.map(lambda x, y: (x / 10, y)).shuffle(16, seed=3).batch(8), verbose=0)
""",
    "lambda and arguments": """
dataset = tf.data.Dataset.from_generator(
    lambda count: rows(int(count)), args=(40,), output_signature=SPEC
)
dataset = dataset.map(lambda x, y: (x + 1, y), num_parallel_calls=tf.data.AUTOTUNE).batch(8)
dataset = dataset.map(lambda x, y: (x * 2, y)).prefetch(tf.data.AUTOTUNE)
make_model().fit(dataset, verbose=0)
""",
    "partial": """
from functools import partial

dataset = tf.data.Dataset.from_generator(partial(rows, count=40), output_signature=SPEC)
dataset = dataset.filter(lambda x, y: y > 1).repeat().batch(8)
make_model().fit(dataset, steps_per_epoch=5, verbose=0, class_weight={3: 2.0, 4: 1.0})
""",
    "dict features": """
def dicts():
    for x, y in rows():
        yield {"a": x, "b": x[:1]}, y

spec = ({"a": tf.TensorSpec(3), "b": tf.TensorSpec(1)}, tf.TensorSpec(()))
dataset = tf.data.Dataset.from_generator(dicts, output_signature=spec).skip(2).take(30).batch(8)
inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((1,), name="b")}
merged = keras.layers.Concatenate()(list(inputs.values()))
model = keras.Model(inputs, keras.layers.Dense(1)(merged))
model.compile("sgd", "mse")
model.fit(dataset, verbose=0)
""",
    "padded batches": """
def words():
    for number in range(40):
        yield np.arange(number % 7 + 1, dtype=np.int32), number % 2

spec = (tf.TensorSpec([None], tf.int32), tf.TensorSpec((), tf.int32))
dataset = tf.data.Dataset.from_generator(words, output_signature=spec)
dataset = dataset.padded_batch(8, padding_values=(-1, 0))
model = keras.Sequential(
    [keras.layers.Embedding(50, 4), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
)
model.compile("sgd", "mse")
model.fit(dataset, verbose=0)
""",
    "own train_step and validation": """
class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
    def call(self, x):
        return self.dense(x)
    def train_step(self, data):
        return super().train_step(data)

dataset = tf.data.Dataset.from_generator(rows, output_signature=SPEC).cache().batch(8)
model = Model()
model.compile("sgd", "mse")
model.fit(dataset, validation_data=dataset.take(1), verbose=0)
""",
    "a generator of batches in the chain": """
def whole():
    for number in range(10):
        yield np.full((8, 3), number, np.float32), np.full(8, number, np.float32)

spec = (tf.TensorSpec((8, 3)), tf.TensorSpec(8))
dataset = tf.data.Dataset.from_generator(whole, output_signature=spec).map(lambda x, y: (x / 2, y))
make_model().fit(dataset, verbose=0)
""",
}
ARGUMENTS = {"main with argparse": ("--size", "8")}
TUNED = {"prefetch_buffer": 3, "map_parallelism": 4}


def batches_of(folder: Path, text: str, args: tuple[str, ...], **settings: Any) -> list[Any]:
    """The script's batches in a run of its own, as configured or as written."""

    def look(call: FitCall) -> list[Any]:
        pipeline = pipeline_in(call)
        size = pipeline.batch_sizes[0]
        config = PipelineConfig.written(size)
        if settings:
            config = PipelineConfig.model_validate({"batch_size": size, **settings})
        return some_batches(pipeline, config, COUNT)

    found: list[Any] = at_fit(folder, text, look, *args)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_the_batches_are_those_of_the_script_with_any_settings(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, args = FORMS[form], ARGUMENTS.get(form, ())

    def own(call: FitCall) -> list[Any]:
        given = call.data.repeat().take(COUNT)
        return [tf.nest.map_structure(lambda leaf: leaf.numpy(), batch) for batch in given]

    written = batches_of(tmp_path, text, args)
    assert len(written) == COUNT
    for settings in (TUNED, {**TUNED, "generator_chunk": 7}):
        tuned = batches_of(tmp_path, text, args, **settings)
        assert_same(tuned, written)
    if "class_weight" not in text:
        # A shuffle draws another order in each epoch, and another one when it is repeated.
        first = COUNT if "shuffle" not in text else 3
        assert_same(at_fit(tmp_path, text, own, *args)[:first], written[:first])


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
    ("form", "axes"),
    [
        ("module level", {"batch_size", "generator_chunk", "cache"}),
        (
            "callable object",
            {
                "batch_size",
                "map_parallelism",
                "generator_chunk",
                "thread_pool_size",
                "max_intra_op_parallelism",
                "reorder",
            },
        ),
        (
            "a generator of batches in the chain",
            {
                "map_parallelism",
                "generator_chunk",
                "thread_pool_size",
                "max_intra_op_parallelism",
                "reorder",
            },
        ),
    ],
)
def test_what_can_be_searched_in_it(
    form: str, axes: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def look(call: FitCall) -> tuple[set[str], list[int]]:
        pipeline = pipeline_in(call)
        assert isinstance(pipeline, ScriptPipeline)
        return set(pipeline.axes), list(pipeline.batch_sizes)

    assert at_fit(tmp_path, FORMS[form], look) == (axes, [8])


def test_class_weights_are_those_of_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def look(call: FitCall) -> Any:
        return some_batches(pipeline_in(call), PipelineConfig.no_prefetch(8), 1)[0]

    _, labels, weights = at_fit(tmp_path, FORMS["partial"], look)
    np.testing.assert_array_equal(weights, np.where(labels == 3, 2.0, 1.0))


def test_another_batch_size_is_used_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def look(call: FitCall) -> list[int]:
        pipeline = pipeline_in(call)
        configs = (PipelineConfig.no_prefetch(5), PipelineConfig.written(5))
        return [len(some_batches(pipeline, config, 1)[0][1]) for config in configs]

    assert at_fit(tmp_path, FORMS["module level"], look) == [5, 5]


def test_a_generator_given_to_fit_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = """
def whole():
    number = 0
    while True:
        yield np.full((8, 3), number, np.float32), np.full(8, number, np.float32)
        number += 1

make_model().fit(whole(), steps_per_epoch=3, verbose=0)
"""

    def look(call: FitCall) -> list[float]:
        pipeline = pipeline_in(call)
        assert isinstance(pipeline, GivenBatches)
        config = PipelineConfig.no_prefetch(8)
        return [float(x[0, 0]) for x, _ in some_batches(pipeline, config, 4)]

    assert at_fit(tmp_path, text, look) == [0.0, 1.0, 2.0, 3.0]


def test_a_generator_given_to_fit_that_ends_is_not_read_again_from_two_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: when it had ended, the two batches that were looked at came again and again."""
    monkeypatch.chdir(tmp_path)
    text = """
def whole():
    for number in range(3):
        yield np.full((8, 3), number, np.float32), np.full(8, number, np.float32)

make_model().fit(whole(), verbose=0)
"""

    def look(call: FitCall) -> int:
        dataset = pipeline_in(call).make_batches(PipelineConfig.no_prefetch(8), 0)
        count = sum(1 for _ in dataset)
        with pytest.raises(tf.errors.OpError, match="ended, and a trial needs more batches"):
            next(iter(dataset))
        return count

    assert at_fit(tmp_path, text, look) == 3


def test_a_trial_has_cache_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would read what an earlier trial wrote, whatever its batch size is."""
    monkeypatch.chdir(tmp_path)
    text = """
def rows():
    for number in range(16):
        yield np.full(3, number, np.float32), np.float32(number)

spec = (tf.TensorSpec(3), tf.TensorSpec(()))
dataset = tf.data.Dataset.from_generator(rows, output_signature=spec).batch(8).cache("kept")
make_model().fit(dataset, verbose=0)
"""

    def look(call: FitCall) -> list[int]:
        pipeline = pipeline_in(call)
        sizes = []
        for config in (PipelineConfig.no_prefetch(8), PipelineConfig.written(4)):
            sizes += [len(batch[1]) for batch in pipeline.make_batches(config, 0)]
        return sizes

    make_scratch()
    try:
        assert at_fit(tmp_path, text, look) == [8, 8, 4, 4, 4, 4]
        assert list(tmp_path.glob("kept*")) == []
    finally:
        remove_scratch()
    assert scratch() is None
    assert at_fit(tmp_path, text, look)[:2] == [8, 8]
    assert list(tmp_path.glob("kept*")) != []  # training for real keeps the user's file


def test_a_py_dataset_made_with_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = """
class Batches(keras.utils.PyDataset):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size
    def __len__(self):
        return 5
    def __getitem__(self, index):
        return np.full((self.size, 3), index, np.float32), np.full(self.size, index, np.float32)
    def on_epoch_end(self):
        self.ended = getattr(self, "ended", 0) + 1

make_model().fit(Batches(6, workers=2), verbose=0)
"""

    def look(call: FitCall) -> tuple[list[int], int]:
        pipeline = pipeline_in(call)
        return list(pipeline.batch_sizes), int(pipeline.own["workers"])

    assert at_fit(tmp_path, text, look) == ([6], 2)

    def trained(call: FitCall, workers: int, buffer: int) -> int:
        config = PipelineConfig(
            batch_size=6, prefetch_buffer=buffer, map_parallelism=1, workers=workers
        )
        call.model.fit(**changes(Path(FILE), call, config), epochs=3, verbose=0)
        assert int(call.model.optimizer.iterations) == 15
        return int(call.data.ended)

    for workers, buffer in ((1, 0), (1, 2), (3, 0), (3, 2)):
        ended = at_fit(tmp_path, text, partial(trained, workers=workers, buffer=buffer))
        assert ended == 3

    def given(call: FitCall, **more: Any) -> list[float]:
        config = PipelineConfig(batch_size=6, prefetch_buffer=2, map_parallelism=1, workers=3)
        changed = changes(Path(FILE), replace(call, arguments={**call.arguments, **more}), config)
        return [float(x[0, 0]) for x, _ in changed["x"]]

    assert at_fit(tmp_path, text, lambda c: given(c, shuffle=False)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert sorted(at_fit(tmp_path, text, given)) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_image_data_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = """
from keras.src.legacy.preprocessing.image import ImageDataGenerator

images, labels = np.zeros((20, 8, 8, 1), np.float32), np.zeros(20, np.float32)
flow = ImageDataGenerator(horizontal_flip=True).flow(images, labels, batch_size=5)
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(flow, verbose=0)
"""
    assert at_fit(tmp_path, text, lambda call: list(pipeline_in(call).batch_sizes)) == [5]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", (1, None)),
        ("epochs=3", (3, None)),
        ("epochs=5, initial_epoch=2", (3, None)),
        ("epochs=3, steps_per_epoch=4", (None, 12)),
    ],
)
def test_how_long_a_training_is(
    arguments: str, found: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = "dataset = tf.data.Dataset.from_generator(rows, output_signature=SPEC).batch(8)"

    def look(call: FitCall) -> object:
        pipeline = pipeline_in(call)
        assert ("cache" in pipeline.axes) == (pipeline.epochs != 1)
        return pipeline.epochs, pipeline.trained_steps

    text = f"{made}\nmake_model().fit(dataset, verbose=0, {arguments})\n"
    assert at_fit(tmp_path, text, look) == found
