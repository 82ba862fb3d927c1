"""Which pipelines there are: a name, or `module:attribute` for a person's own."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any, cast

from prefetch_tuning.pipelines.source import (
    REQUIRED_MEMBERS,
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
    PipelineError,
)
from prefetch_tuning.pipelines.target import TARGET, check_precision

# Names point at `module:attribute` instead of classes: listing them must not import TensorFlow.
_BUILT_IN: dict[str, str] = {}
_HEAVY: set[str] = set()


def register(name: str, target: str, *, heavy: bool = False) -> None:
    """Adds a built-in pipeline; a `heavy` one is measured only where it is named.

    Raises:
        ValueError: the name is taken; a silent replacement would tune something else.
    """
    if name in _BUILT_IN:
        raise ValueError(f"pipeline name {name!r} is taken by {_BUILT_IN[name]}; choose another")
    _BUILT_IN[name] = target
    if heavy:
        _HEAVY.add(name)


register("simple", "prefetch_tuning.pipelines.builtin.simple:SimplePipeline")
register("noisy", "prefetch_tuning.pipelines.builtin.noisy:NoisyPipeline")
register("image", "prefetch_tuning.pipelines.builtin.image:ImagePipeline")
register("jpeg", "prefetch_tuning.pipelines.builtin.jpeg:JpegPipeline")
register("text", "prefetch_tuning.pipelines.builtin.text:TextPipeline")
register("remote", "prefetch_tuning.pipelines.builtin.remote:RemotePipeline")
register("tabular", "prefetch_tuning.pipelines.builtin.tabular:TabularPipeline")
register(
    "keras_sequence",
    "prefetch_tuning.pipelines.builtin.keras_sequence:Batches,model=prefetch_tuning.pipelines.builtin.keras_sequence:build_model",
)
# Their step takes seconds on a CPU.
register(
    "image-resnet",
    "prefetch_tuning.pipelines.builtin.support.resnet:ImageResnetPipeline",
    heavy=True,
)
register(
    "jpeg-resnet", "prefetch_tuning.pipelines.builtin.support.resnet:JpegResnetPipeline", heavy=True
)


def names() -> list[str]:
    """The built-in pipelines that stand for all of them, in the order they are tuned."""
    return [name for name in _BUILT_IN if name not in _HEAVY]


def heavy_names() -> list[str]:
    """The built-in pipelines whose model wants a GPU: listed, and measured only by name."""
    return [name for name in _BUILT_IN if name in _HEAVY]


def built_in_name(target: str) -> str | None:
    """The name of the built-in pipeline that is this target and nothing else; None if none is."""
    return next((name for name, own in _BUILT_IN.items() if own == target), None)


def resolve(selector: str) -> str:
    """Turns a built-in's name or `module:attribute` into `module:attribute`, importing nothing.

    Raises:
        PipelineError: no such name; the message suggests the nearest one.
    """
    if selector in _BUILT_IN:
        return _BUILT_IN[selector]
    if re.fullmatch(TARGET, selector):
        return selector
    if found := re.search(r",precision=([^,]*)", selector):
        check_precision(found[1])
    if ":" in selector:
        raise PipelineError(f"{selector!r} is not of the form module:attribute, as in data:Shards")
    nearest = difflib.get_close_matches(selector, _BUILT_IN, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "give your own as module:attribute"
    there = ", ".join([*names(), *heavy_names()])
    raise PipelineError(f"no pipeline named {selector!r}; {hint} (there are: {there})")


def load(target: str) -> Pipeline:
    """Imports `module:attribute` and returns the pipeline, calling a class for an instance.

    A plain function or a PyDataset is made into one, with the map, model and step time of `target`.
    The model of any gets the target's precision and jit. The current directory is importable. This
    imports TensorFlow, so only a trial's process does it.

    Raises:
        PipelineError: the module does not import, or what it holds is not a pipeline.
    """
    parts = re.fullmatch(TARGET, target)
    if parts is None:
        raise PipelineError(f"{target!r} is not of the form module:attribute")
    options = parts["precision"], bool(parts["jit"])
    if options == (None, False):
        return _load(parts)
    if parts["step"]:
        raise PipelineError(
            f"{parts['main']}: a step that sleeps has no model for --mixed-precision or "
            "--jit-compile; leave out --step-time or those"
        )
    from prefetch_tuning.pipelines.adapters.model_options import with_model_options

    return with_model_options(_load(parts), options[0], jit=options[1])


def _load(parts: re.Match[str]) -> Pipeline:
    found = _attribute(parts["main"])
    if inspect.isroutine(found):
        return _from_functions(found, parts)
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise PipelineError(
                f"{parts['main']}: making an instance failed: {_quote(error)}; what needs "
                "arguments can be named as an instance, module:instance"
            ) from error
    if _is_sequence(found):
        return _from_sequence(found, parts)
    if any(parts[key] for key in ("map", "model", "step")):
        raise PipelineError(
            f"{parts['main']} is no plain function: it brings its own map and model, so leave out "
            "--map, --model and --step-time"
        )
    if isinstance(found, BatchesPipeline):
        return found
    missing = [member for member in REQUIRED_MEMBERS if not hasattr(found, member)]
    if missing:
        raise PipelineError(
            f"{parts['main']} is not a pipeline: it has no {', '.join(missing)}; "
            "subclass prefetch_tuning.pipelines.source.GeneratorPipeline"
        )
    return cast("GeneratorPipeline", found)


# What follows needs TensorFlow, which listing the names must not import.


def _from_functions(function: Any, parts: re.Match[str]) -> Pipeline:
    from prefetch_tuning.pipelines.adapters.dataset_function import DatasetFunction, builds_dataset
    from prefetch_tuning.pipelines.adapters.functions import (
        FunctionPipeline,
        MappedFunctionPipeline,
    )

    transform, model = _named(parts, "map"), _named(parts, "model")
    if builds_dataset(function):
        _refuse_map(parts, "a function that builds a dataset")
        return DatasetFunction(function, model, _step_ms(parts))
    if transform is None:
        return FunctionPipeline(function, model, _step_ms(parts))
    return MappedFunctionPipeline(function, model, _step_ms(parts), transform)


def _is_sequence(found: object) -> bool:
    keras = sys.modules.get("keras")  # whoever made a PyDataset has imported it
    return keras is not None and isinstance(found, keras.utils.PyDataset)


def _from_sequence(sequence: Any, parts: re.Match[str]) -> Pipeline:
    from prefetch_tuning.pipelines.adapters.sequence import SequencePipeline

    _refuse_map(parts, "a PyDataset")
    return SequencePipeline(sequence, _named(parts, "model"), _step_ms(parts))


def _refuse_map(parts: re.Match[str], what: str) -> None:
    if parts["map"]:
        raise PipelineError(f"{parts['main']} is {what}: it maps by itself, so leave out --map")


def _named(parts: re.Match[str], key: str) -> Any:
    return _attribute(parts[key]) if parts[key] else None


def _step_ms(parts: re.Match[str]) -> float | None:
    return float(parts["step"]) if parts["step"] else None


def _attribute(target: str) -> object:
    module_name, _, path = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
    except Exception as error:
        raise PipelineError(
            f"cannot import {module_name!r} from {here}: {_quote(error)}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise PipelineError(f"module {module_name!r} has no attribute {path!r}")
        found = getattr(found, part)
    return found


def _quote(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
