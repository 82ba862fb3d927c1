"""Pipelines out of plain functions: a generator, and if there are such, a map and a model."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

# Elements that the spec is read off, in every process anew; a dimension that differs among them is
# unknown.
LOOKED_AT = 8
BATCH_SIZES = (32, 64, 128, 256)


class FunctionPipeline(GeneratorPipeline):
    """A generator function with what else was named on the command line.

    Attributes:
        functions: whose source decides what is measured.
        stand_in: what takes the place of a model, in words; None where there is one.
    """

    batch_sizes = BATCH_SIZES

    def __init__(
        self,
        generator: Callable[..., Any],
        model: Callable[[], Any] | None,
        step_ms: float | None,
        transform: Callable[..., Any] | None = None,
    ) -> None:
        """Calls the generator once, to see what its elements are.

        Raises:
            PipelineError: it cannot be called, or its elements cannot be described.
        """
        self._generator = generator
        self.functions = [f for f in (generator, transform, model) if f is not None]
        self.name = generator.__name__.lstrip("_")
        self.__doc__ = inspect.getdoc(generator) or f"The generator {generator.__name__}."
        self.build_model_of, self.stand_in = step_model(generator.__name__, model, step_ms)
        self.element_spec = infer_spec(self.name, self.generate(0))

    def generate(self, seed: int) -> Iterator[Any]:
        """The function's own elements; it gets the seed if it has a parameter of that name."""
        arguments = (
            {"seed": seed} if "seed" in inspect.signature(self._generator).parameters else {}
        )
        try:
            yield from self._generator(**arguments)
        except TypeError as error:
            if "argument" not in str(error):
                raise
            raise PipelineError(
                f"{self.name} cannot be called with nothing but a seed: {error}"
            ) from error

    def build_model(self) -> keras.Model:
        return self.build_model_of()


class MappedFunctionPipeline(FunctionPipeline):
    """The same with a map."""

    def __init__(
        self,
        generator: Callable[..., Any],
        model: Callable[[], Any] | None,
        step_ms: float | None,
        transform: Callable[..., Any],
    ) -> None:
        super().__init__(generator, model, step_ms, transform)
        self._transform = transform

    def transform(self, *element: Any) -> Any:
        return self._transform(*element)


def step_model(
    name: str, model: Callable[[], Any] | None, step_ms: float | None
) -> tuple[Callable[[], Any], str | None]:
    """What makes the model, and in words what it stands in for; None for a real one.

    Raises:
        PipelineError: there is neither a model nor a time to sleep.
    """
    if model is not None:
        return model, None
    if step_ms is None:
        raise PipelineError(
            f"{name}: what consumes its elements? give --model module:function, "
            "which returns a compiled Keras model, or --step-time 5ms"
        )
    said = f"a sleep of {step_ms:g} ms in place of a training step"
    return functools.partial(sleeping_model, step_ms), said


def sleeping_model(step_ms: float) -> keras.Model:
    """A model whose training step sleeps: it takes time and no core, as a step on a GPU does."""

    class Sleeping(keras.Model):  # type: ignore[misc]  # keras has no types
        def train_step(self, _: Any) -> dict[str, Any]:
            time.sleep(step_ms / 1_000.0)
            return {"loss": 0.0}

    model = Sleeping()
    # Eagerly: in a graph the sleep would have to come back into Python through an op of its own.
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)
    return model


def infer_spec(name: str, elements: Iterator[Any]) -> Any:
    """The spec of a generator's elements, read off the first of them.

    Raises:
        PipelineError: there is none, or they differ in structure, type or rank.
    """
    try:
        found = [_specs(element) for element in islice(elements, LOOKED_AT)]
    except PipelineError:
        raise
    except (TypeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise PipelineError(
            f"{name}: an element is nothing that TensorFlow could hold ({reason}); yield numbers, "
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
                f"{name}: element {number} has another structure than the first; write a class "
                "with an element_spec (prefetch-tune new FILE)"
            ) from None
    return tf.nest.map_structure(lambda *specs: _common(name, specs), *found)


def _specs(element: Any) -> Any:
    """As in tf.data only tuples and dicts are structure: a list is a tensor written out."""
    if isinstance(element, dict):
        return {key: _specs(value) for key, value in element.items()}
    if isinstance(element, tuple):
        return tuple(_specs(part) for part in element)
    tensor = tf.convert_to_tensor(element)
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _common(name: str, specs: Sequence[tf.TensorSpec]) -> tf.TensorSpec:
    """The narrowest spec that holds all of them."""
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
