"""Turns plain functions into pipelines: a generator, with an optional map and model."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

# The spec is inferred from this many elements, again in each process. A dimension that differs
# among them is unknown.
LOOKED_AT = 8
BATCH_SIZES = (32, 64, 128, 256)


class FunctionPipeline(GeneratorPipeline):
    """A generator function, with the model or step time that the target names.

    Attributes:
        functions: the functions whose source decides what is measured.
        stand_in: describes what replaces a model's training step; None for a real model.
    """

    batch_sizes = BATCH_SIZES

    def __init__(
        self,
        generator: Callable[..., Any],
        model: Callable[[], Any] | None,
        step: StepTime | None,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        """Calls the generator once to infer the spec of its elements.

        Raises:
            PipelineError: there is neither a model nor a step time, the generator cannot be
                called, or its elements have no common spec.
        """
        self._generator = generator
        self.functions = [f for f in (generator, transform, model) if f is not None]
        self.name = generator.__name__.lstrip("_")
        self.__doc__ = inspect.getdoc(generator) or f"The generator {generator.__name__}."
        self.build_model_of, self.stand_in = step_model(generator.__name__, model, step)
        self.element_spec = infer_spec(self.name, self.generate(0))

    def generate(self, seed: int) -> Iterator[Any]:
        """Yields the function's elements; passes it the seed if it has a parameter `seed`."""
        arguments = (
            {"seed": seed} if "seed" in inspect.signature(self._generator).parameters else {}
        )
        try:
            yield from self._generator(**arguments)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise PipelineError(
                f"{self.name} cannot be called with only a seed: {error}; give its other "
                "parameters defaults"
            ) from error

    def build_model(self) -> keras.Model:
        return self.build_model_of()


class MappedFunctionPipeline(FunctionPipeline):
    """A generator function with a map."""

    def __init__(
        self,
        generator: Callable[..., Any],
        model: Callable[[], Any] | None,
        step: StepTime | None,
        transform: Callable[..., Any],
    ) -> None:
        super().__init__(generator, model, step, transform)
        self._transform = transform

    def transform(self, *element: Any) -> Any:
        return self._transform(*element)


def step_model(
    name: str, model: Callable[[], Any] | None, step: StepTime | None
) -> tuple[Callable[[], Any], str | None]:
    """Returns the function that makes the model, and an emulated step's description or None.

    Without a model and a step time, the function raises PipelineError: a dataset needs neither.
    """
    if step is not None:
        return functools.partial(EmulatedModel, step), step.in_words
    return model or functools.partial(_no_model, name), None


def _no_model(name: str) -> NoReturn:
    raise PipelineError(
        f"{name}: there is no model to consume its elements; give --model module:function, "
        "which returns a compiled Keras model, or --step-time 5ms"
    )


class EmulatedModel(keras.Model):  # type: ignore[misc]  # keras has no types
    """A model whose training step takes a known time and no core, like a step on a GPU.

    The measuring loop emulates an accelerator instead of calling `train_step`. In `model.fit`, each
    step sleeps.

    Attributes:
        step_time: how long a step takes.
    """

    def __init__(self, step_time: StepTime) -> None:
        super().__init__()
        self.step_time = step_time
        # Eager, because in a graph the sleep would need a separate op to call back into Python.
        self.compile(optimizer="sgd", loss="mse", run_eagerly=True)

    def train_step(self, data: Any) -> dict[str, Any]:
        time.sleep(self.step_time.seconds(int(tf.shape(tf.nest.flatten(data)[0])[0])))
        return {"loss": 0.0}


def infer_spec(name: str, elements: Iterator[Any]) -> Any:
    """The spec of a generator's elements, inferred from the first few.

    Raises:
        PipelineError: there are no elements, TensorFlow cannot hold one of them, or they differ in
            structure, type or rank.
    """
    try:
        found = [_specs(element) for element in islice(elements, LOOKED_AT)]
    except PipelineError:
        raise
    except (TypeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PipelineError(
            f"{name}: TensorFlow cannot hold one of its elements ({reason}); yield numbers, "
            "strings, NumPy arrays, or tuples and dicts of them"
        ) from error
    if not found:
        raise PipelineError(f"{name} ended without yielding an element")
    first = found[0]
    for number, other in enumerate(found[1:], start=1):
        try:
            tf.nest.assert_same_structure(first, other)
        except (TypeError, ValueError):
            raise PipelineError(
                f"{name}: element {number} differs in structure from the first; write a class "
                "with an element_spec (prefetch-tune new FILE)"
            ) from None
    return tf.nest.map_structure(lambda *specs: _common(name, specs), *found)


def _specs(element: Any) -> Any:
    """The specs of one element. As in tf.data, tuples and dicts are structure; a list isn't."""
    if isinstance(element, dict):
        return {key: _specs(value) for key, value in element.items()}
    if isinstance(element, tuple):
        return tuple(_specs(part) for part in element)
    tensor = tf.convert_to_tensor(element)
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _common(name: str, specs: Sequence[tf.TensorSpec]) -> tf.TensorSpec:
    """The narrowest spec that covers all of them."""
    kinds = {spec.dtype for spec in specs}
    ranks = {spec.shape.rank for spec in specs}
    if len(kinds) > 1 or len(ranks) > 1:
        shown = sorted({f"{spec.dtype.name}{list(spec.shape)}" for spec in specs})
        raise PipelineError(
            f"{name}: its elements have no common type: {', '.join(shown[:4])}; yield one dtype "
            "and one number of dimensions"
        )
    dimensions = zip(*(tuple(spec.shape) for spec in specs), strict=True)
    shape = [sizes[0] if len(set(sizes)) == 1 else None for sizes in dimensions]
    return tf.TensorSpec(shape, specs[0].dtype)
