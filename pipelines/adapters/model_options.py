"""Changes the model that any pipeline's `build_model` makes: precision, XLA, an emulated step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from prefetch_tuning.pipelines.adapters.functions import step_model
from prefetch_tuning.pipelines.source import Pipeline, PipelineError
from prefetch_tuning.pipelines.step_time import StepTime


def with_model_options(pipeline: Pipeline, precision: str | None, *, jit: bool) -> Pipeline:
    """Copies `pipeline` so that `build_model` makes a model of this precision, compiled by XLA.

    The copy is an instance of the same class, because the class decides whether there is a map and
    whether the generator can run in shards. The target may name an instance in the user's module,
    so the original isn't changed.

    Args:
        pipeline: any pipeline.
        precision: "float16" or "bfloat16"; None leaves the precision to the pipeline.
        jit: compiles the model's step with XLA; False leaves this to the pipeline.
    """
    build = partial(build_model_as, pipeline.build_model, precision, jit=jit)
    return _copy(pipeline, build_model=build)


def with_step(pipeline: Pipeline, step: StepTime) -> Pipeline:
    """Copies `pipeline` so that an emulated step takes the place of its model's."""
    build, said = step_model(pipeline.name, None, step)
    return _copy(pipeline, build_model=build, stand_in=said)


def _copy(pipeline: Pipeline, **changes: object) -> Pipeline:
    chosen = copy.copy(pipeline)
    for name, value in changes.items():
        # Bypasses the class's own __setattr__, because a pipeline may be a frozen dataclass.
        object.__setattr__(chosen, name, value)
    return chosen


def build_model_as(build: Callable[[], Any], precision: str | None, *, jit: bool) -> Any:
    """Calls `build` under the global policy `mixed_<precision>` and sets `jit_compile=True`.

    The policy stays set, as in a training script that sets it in its first line, because some
    models make their layers only when they see the first batch. With float16, Keras scales the
    loss in `compile`, which `build` must call as it does without these options.

    Raises:
        PipelineError: XLA cannot compile this model's step.
    """
    if precision is not None:
        keras.mixed_precision.set_global_policy(f"mixed_{precision}")
    model = build()
    # The inspection of every pipeline rejects anything that isn't a compiled Keras model.
    if jit and isinstance(model, keras.Model) and model.compiled:
        _compile_with_xla(model)
    return model


def _compile_with_xla(model: keras.Model) -> None:
    if model.run_eagerly:
        raise PipelineError(
            "the model is compiled with run_eagerly=True, so there is no graph for --jit-compile; "
            "leave one of them out"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the error below says the same and ends the command
        model.jit_compile = True
    if not model.jit_compile:
        raise PipelineError(
            "Keras cannot compile this model with XLA: one of its layers doesn't support it, or op "
            "determinism is on; leave out --jit-compile"
        )
    model.train_function = None  # one that was made before isn't compiled with XLA
