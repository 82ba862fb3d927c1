"""Mixed precision and XLA for the model of any pipeline, as `build_model` makes it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from prefetch_tuning.pipelines.source import Pipeline, PipelineError


def with_model_options(pipeline: Pipeline, precision: str | None, *, jit: bool) -> Pipeline:
    """A copy of `pipeline` whose `build_model` makes a model of this precision, compiled by XLA.

    It stays an instance of its class: whether it has a map or can be run in shards is asked there.
    What the target names may be an instance of the user's own module, which stays as it is.

    Args:
        pipeline: any.
        precision: "float16" or "bfloat16"; None leaves it to the pipeline.
        jit: False leaves it to the pipeline.
    """
    chosen = copy.copy(pipeline)
    build = partial(build_model_as, pipeline.build_model, precision, jit=jit)
    # Past the class's own __setattr__: a frozen dataclass can be a pipeline, too.
    object.__setattr__(chosen, "build_model", build)
    return chosen


def build_model_as(build: Callable[[], Any], precision: str | None, *, jit: bool) -> Any:
    """What `build` makes under the global policy `mixed_<precision>`, and with `jit_compile=True`.

    The policy stays set, as in a training script that sets it in its first line: some models make
    their layers only when they see the first batch. With float16 Keras scales the loss in
    `compile`, which `build` is to call as it does without these options.

    Raises:
        PipelineError: XLA cannot compile this model's step.
    """
    if precision is not None:
        keras.mixed_precision.set_global_policy(f"mixed_{precision}")
    model = build()
    # What is no compiled Keras model is refused where every pipeline's model is looked at.
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
        warnings.simplefilter("ignore")  # said below, as what ends the command
        model.jit_compile = True
    if not model.jit_compile:
        raise PipelineError(
            "Keras cannot compile this model with XLA: a layer of it does not support that, or op "
            "determinism is on; leave out --jit-compile"
        )
    model.train_function = None  # one that was made before is not compiled
