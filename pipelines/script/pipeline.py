"""The pipeline that a script's `fit` consumes, as it was recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

# A private import, on purpose: `model.fit` wraps a dataset in this adapter.
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter

from prefetch_tuning.pipelines.adapters.functions import infer_spec, step_model
from prefetch_tuning.pipelines.adapters.py_dataset import PyDatasetPipeline
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.transformations import (
    BATCHES,
    Transformation,
    has,
    number_of_batches,
)
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.fit import FitCall
from prefetch_tuning.pipelines.script.recorder import Record
from prefetch_tuning.pipelines.script.scratch import scratch
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    PipelineError,
)
from prefetch_tuning.pipelines.step_time import StepTime

# Transformations that may keep elements in files, and the argument that says where.
IN_FILES = {"cache": "filename", "snapshot": "path"}
CLOSURE = "a script's generator can't be moved to other processes"


class ScriptSource(GeneratorPipeline):
    """The generator that a script gave to `from_generator`; the script seeds it itself."""

    batch_sizes = ()

    def __init__(self, name: str, path: Path, record: Record, stand_in: str | None) -> None:
        self.name, self.element_spec, self.stand_in = name, record.element_spec, stand_in
        self.files = [path]
        self._generator = record.generator

    def generate(self, seed: int) -> Iterator[Any]:
        del seed
        return iter(self._generator())

    def build_model(self) -> keras.Model:
        raise NotImplementedError  # the script made it


class ScriptPipeline(ChainPipeline):
    """A script's chain, from its generator to the batches of its `fit`.

    Attributes:
        written: the chain as the script wrote it, with its own last prefetch.
    """

    is_written = True

    def __init__(
        self, path: Path, call: FitCall, step: StepTime | None, sizes: Sequence[int] = ()
    ) -> None:
        assert call.record is not None
        name = path.stem
        build_model, stand_in = step_model(name, lambda: call.model, step)
        self.written = [_in_own_file(each) for each in call.record.calls]
        place = call.record.place
        self.calls = [("from_generator", place), *((c.name, c.place) for c in self.written)]
        self._class_weight = call.arguments.get("class_weight")
        epochs = call.arguments.get("epochs", 1) - call.arguments.get("initial_epoch", 0)
        steps = call.arguments.get("steps_per_epoch")
        if steps is not None:
            self.trained_steps = epochs * steps
        elif not has(call.record.calls, "repeat"):
            self.epochs = epochs
        source = ScriptSource(name, path, call.record, stand_in)
        calls = list(self.written)
        while calls and calls[-1].name == "prefetch":
            calls.pop()
        size = _batch_size(calls, source)
        super().__init__(source, calls, build_model, batch_sizes=(size,))
        self.batch_sizes = tuple(sizes) or (size,)
        self.files = source.files
        self.__doc__ = f"The data of fit in {path.name}."

    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """One epoch; as the script wrote it, only the batch size may differ."""
        return TFDatasetAdapter(
            self.given_to_fit(config, seed), class_weight=self._class_weight
        ).get_tf_dataset()

    def given_to_fit(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """The dataset to give to `fit`, which adds the class weights itself."""
        if not config.as_written:
            return super().make_batches(config, seed)
        dataset = self.generated(config, seed)
        for call in self.written:
            sized = call.name in BATCHES and "batch_size" in self.axes
            dataset = call.on(dataset, **({"batch_size": config.batch_size} if sized else {}))
        return dataset

    def _reasons_against(self) -> dict[str, str]:
        against = {**super()._reasons_against(), "generator_workers": CLOSURE}
        if self.epochs is not None and self.epochs <= 1:
            against["cache"] = "fit runs a single epoch"
        return against


class InOwnFile(Transformation):
    """A cache in a file. A trial has a file of its own, because an earlier run's would be read."""

    def on(self, dataset: Any, **changed: Any) -> Any:
        folder = scratch()
        if folder is not None:
            changed[IN_FILES[self.name]] = f"{tempfile.mkdtemp(dir=folder)}/cache"
        return super().on(dataset, **changed)


def _in_own_file(call: Transformation) -> Transformation:
    if not call.arguments.get(IN_FILES.get(call.name, "")):
        return call
    return InOwnFile(call.name, call.arguments, call.place)


class GivenBatches(BatchesPipeline):
    """A Python generator of batches that a script gave to `fit`, which can be read only once.

    A batch that was looked at is read again first.
    """

    axes = ()
    is_written = True

    def __init__(self, path: Path, call: FitCall, step: StepTime | None) -> None:
        self.name, self.files = path.stem, [path]
        self.__doc__ = f"The batches of fit in {path.name}."
        self.functions = []
        self.build_model_of, self.stand_in = step_model(self.name, lambda: call.model, step)
        self._rest = iter(call.data)
        self._looked_at = list(islice(self._rest, 2))
        self._ended = False
        spec = infer_spec(self.name, iter(self._looked_at))
        rows = tf.nest.flatten(self._looked_at[0])[0].shape[0]
        self.batch_sizes = (int(rows),)
        # The last batch of an epoch may be short.
        self.element_spec = tf.nest.map_structure(
            lambda leaf: tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype), spec
        )

    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        del seed
        dataset = tf.data.Dataset.from_generator(self._batches, output_signature=self.element_spec)
        if config.as_written or config.prefetch_buffer == 0:
            return dataset  # as Keras reads it
        return dataset.prefetch(config.buffer_size)

    def bare_batches(self, seed: int) -> Iterator[Any]:
        del seed
        return self._batches()

    def build_model(self) -> keras.Model:
        return self.build_model_of()

    def _batches(self) -> Iterator[Any]:
        if self._ended:
            raise PipelineError(
                f"the generator given to fit in {self.name}.py ended, and a trial needs more "
                "batches than it has; give fit a generator that repeats them, with steps_per_epoch"
            )
        yield from self._looked_at
        yield from self._rest
        self._ended = True


def described(call: FitCall) -> str:
    """The chain in words, to see whether a script still has the one that was tuned."""
    if call.record is None:
        return type(call.data).__name__
    made = [_in_words(each) for each in call.record.calls]
    return " > ".join([f"from_generator({_value(call.record.generator)})", *made])


def _in_words(call: Transformation) -> str:
    # A seed that was drawn for an unseeded shuffle differs from one run to the next.
    given = [f"{key}={_value(value)}" for key, value in call.arguments.items() if key != "seed"]
    return f"{call.name}({', '.join(given)})"


def _value(value: Any) -> str:
    if callable(value):
        inner = getattr(value, "func", value)  # of a functools.partial
        return str(getattr(inner, "__qualname__", type(inner).__name__))
    return str(value) if isinstance(value, str | int | float | None) else type(value).__name__


def pipeline_of(
    path: Path, call: FitCall, step: StepTime | None = None, sizes: Sequence[int] = ()
) -> BatchesPipeline:
    """The pipeline that a call of `fit` in this script consumes.

    Raises:
        PipelineError: nothing of it can be measured, or it has no other batch sizes.
    """
    pipeline: BatchesPipeline
    if isinstance(call.data, keras.utils.PyDataset):
        weights = call.arguments.get("class_weight")
        found = PyDatasetPipeline(call.data, lambda: call.model, step, weights)
        # The script has run TensorFlow by now, so nothing may be forked any more.
        found.axes = tuple(name for name in found.axes if name != "use_multiprocessing")
        found.name, found.files = path.stem, [path]
        pipeline = found
    elif call.record is None:
        pipeline = GivenBatches(path, call, step)
    else:
        pipeline = ScriptPipeline(path, call, step, sizes)
    _check_sized(pipeline, sizes)
    pipeline.chain_in_words = described(call)
    pipeline.reach_s = call.reached_s
    return pipeline


def _check_sized(pipeline: BatchesPipeline, sizes: Sequence[int]) -> None:
    if sizes and "batch_size" not in pipeline.axes:
        raise PipelineError(
            f"{pipeline.name}: the script's code makes its batches of {pipeline.batch_sizes[0]} "
            "itself; leave out --batch-sizes"
        )


def _batch_size(calls: Sequence[Transformation], source: ScriptSource) -> int:
    """The script's own batch size: of its only `batch`, or of the batches that it generates."""
    if number_of_batches(calls) == 1:
        made = next(each for each in calls if each.name in BATCHES)
        return int(made.arguments["batch_size"])
    dataset = tf.data.Dataset.from_generator(
        lambda: source.generate(0), output_signature=source.element_spec
    )
    for call in calls:
        dataset = call.on(dataset)
    for batch in dataset:
        return int(tf.nest.flatten(batch)[0].shape[0])
    raise PipelineError(f"the dataset of {source.name} ended without a single batch")
