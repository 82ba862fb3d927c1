"""Finds and loads pipelines: built-in ones by name, a user's own by `module:attribute`."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

from prefetch_tuning.pipelines.source import (
    REQUIRED_MEMBERS,
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
    PipelineError,
)
from prefetch_tuning.pipelines.target import Target

# Names map to `module:attribute` and not to classes, because listing them must not import
# TensorFlow.
_BUILT_IN: dict[str, str] = {}
_HEAVY: set[str] = set()


def register(name: str, target: str, *, heavy: bool = False) -> None:
    """Adds a built-in pipeline; a `heavy` one is measured only if the user names it.

    Raises:
        ValueError: the name is taken; replacing it silently would tune something else.
    """
    if name in _BUILT_IN:
        raise ValueError(f"pipeline name {name!r} is taken by {_BUILT_IN[name]}; choose another")
    _BUILT_IN[name] = target
    if heavy:
        _HEAVY.add(name)


DESCRIBED = Path(__file__).resolve().parent / "builtin" / "described.json"
_HERE = "prefetch_tuning.pipelines.builtin"
_OLD_BUILT_IN = re.compile(
    r"(?<![\w.])pipelines\.(simple|noisy|image|jpeg|text|remote|tabular|keras_sequence):"
)
register("simple", f"{_HERE}.simple:SimplePipeline")
register("noisy", f"{_HERE}.noisy:NoisyPipeline")
register("image", f"{_HERE}.image:ImagePipeline")
register("jpeg", f"{_HERE}.jpeg:JpegPipeline")
register("text", f"{_HERE}.text:TextPipeline")
register("remote", f"{_HERE}.remote:RemotePipeline")
register("tabular", f"{_HERE}.tabular:TabularPipeline")
register(
    "keras_sequence",
    f"{_HERE}.keras_sequence:Batches,model={_HERE}.keras_sequence:build_model",
)
# Their training step takes seconds on a CPU.
register("image-resnet", f"{_HERE}.heavy.resnet:ImageResnetPipeline", heavy=True)
register("jpeg-resnet", f"{_HERE}.heavy.resnet:JpegResnetPipeline", heavy=True)


def names() -> list[str]:
    """The names of the built-in pipelines that are tuned by default, in that order."""
    return [name for name in _BUILT_IN if name not in _HEAVY]


def described() -> dict[str, list[str]]:
    """What `prefetch-tune pipelines` shows of these pipelines, by name; docs/described.py wrote it.

    Importing them takes TensorFlow, which takes seconds.
    """
    rows: dict[str, list[str]] = json.loads(DESCRIBED.read_text(encoding="utf-8"))
    return rows


def heavy_names() -> list[str]:
    """The names of the built-in pipelines with a model for a GPU: measured only if named."""
    return [name for name in _BUILT_IN if name in _HEAVY]


def built_in_name(target: str) -> str | None:
    """The name of the built-in pipeline with exactly this target; None if there is none."""
    return next((name for name, own in _BUILT_IN.items() if own == target), None)


def renamed(target: str, version: str | None) -> str:
    """Translates a target that this project's `version` recorded into today's names.

    In 0.1 each built-in pipeline was a module `pipelines.NAME`. In later versions a module of that
    name is the user's own.
    """
    if version is None or not version.startswith("0.1."):
        return target
    target = _OLD_BUILT_IN.sub(rf"{_HERE}.\1:", target)
    return target.replace("pipelines.resnet:", f"{_HERE}.heavy.resnet:")


def resolve(selector: str) -> str:
    """Returns the target of a built-in's name, `module:attribute` or `file.py:attribute`.

    It imports nothing.

    Raises:
        PipelineError: there is no such name (the message suggests the nearest one), or the
            selector doesn't have one of these forms.
    """
    if selector in _BUILT_IN:
        return _BUILT_IN[selector]
    if ":" in selector or selector.partition(",")[0].endswith(".py"):
        target = Target.parse(selector)
        if target.is_script and not Path(target.main).is_file():
            raise PipelineError(f"there is no script {target.main!r} in {Path.cwd()}")
        return str(target)
    nearest = difflib.get_close_matches(selector, _BUILT_IN, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "name your own as file.py:name, or a"
    hint += "" if nearest else " training script as train.py"
    there = ", ".join([*names(), *heavy_names()])
    raise PipelineError(f"no pipeline named {selector!r}; {hint} (there are: {there})")


def load(selector: str) -> Pipeline:
    """Imports the pipeline that a user or a record names.

    `selector` is anything that `resolve` accepts. A class is called to get an instance. A plain
    function or a PyDataset becomes a pipeline with the target's map, model and step time. The
    target's precision and jit apply to any pipeline's model. Modules in the current directory can
    be imported. Loading imports TensorFlow, so the process that runs a study doesn't do it.

    Raises:
        PipelineError: there is no such pipeline, its module cannot be imported, or the attribute
            is not a pipeline.
    """
    target = Target.parse(resolve(selector))
    if target.precision is None and not target.jit:
        return _load(target)
    if target.step is not None:
        raise PipelineError(
            f"{target.main}: an emulated step has no model for --mixed-precision or "
            "--jit-compile; leave out the emulated step or these options"
        )
    from prefetch_tuning.pipelines.adapters.model_options import with_model_options

    return with_model_options(_load(target), target.precision, jit=target.jit)


def _load(target: Target) -> Pipeline:
    if target.is_script:
        from prefetch_tuning.pipelines.script.session import pipeline_of_script

        return pipeline_of_script(target)
    found = _attribute(target.main)
    if inspect.isroutine(found):
        return _from_functions(found, target)
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise PipelineError(
                f"{target.main}: creating an instance failed: {_quote(error)}; if it needs "
                "arguments, create an instance in your module and name that as module:instance"
            ) from error
    if _is_py_dataset(found):
        return _from_py_dataset(found, target)
    if (target.map, target.model) != (None, None):
        raise PipelineError(
            f"{target.main} isn't a plain function: it has its own map and model, so leave out "
            "--map and --model"
        )
    if isinstance(found, BatchesPipeline):
        return _emulated(found, target)
    missing = [member for member in REQUIRED_MEMBERS if not hasattr(found, member)]
    if missing:
        raise PipelineError(
            f"{target.main} is not a pipeline: it has no {', '.join(missing)}; "
            "subclass prefetch_tuning.GeneratorPipeline"
        )
    if not isinstance(found, GeneratorPipeline):
        raise PipelineError(
            f"{target.main} is not a pipeline: subclass prefetch_tuning.GeneratorPipeline"
        )
    return _emulated(_with_chain(found), target)


# The functions below need TensorFlow, which listing the names must not import.


def _from_functions(function: Any, target: Target) -> Pipeline:
    from prefetch_tuning.pipelines.adapters.dataset_function import DatasetFunction, builds_dataset
    from prefetch_tuning.pipelines.adapters.functions import (
        FunctionPipeline,
        MappedFunctionPipeline,
    )

    transform, model = _named(target.map), _named(target.model)
    if builds_dataset(function):
        _refuse_map(target, "a function that builds a dataset")
        return DatasetFunction(function, model, target.step)
    if transform is None:
        return FunctionPipeline(function, model, target.step)
    return MappedFunctionPipeline(function, model, target.step, transform)


def _with_chain(pipeline: GeneratorPipeline) -> Pipeline:
    if pipeline.chain is None:
        return pipeline
    from prefetch_tuning.pipelines.chain.declared import ChainPipeline

    return ChainPipeline.of(pipeline)


def _emulated(pipeline: Pipeline, target: Target) -> Pipeline:
    """The pipeline with an emulated step in place of its model's, if the target has one."""
    if target.step is None:
        return pipeline
    from prefetch_tuning.pipelines.adapters.model_options import with_step

    return with_step(pipeline, target.step)


def _is_py_dataset(found: object) -> bool:
    keras = sys.modules.get("keras")  # already imported if there is a PyDataset
    return keras is not None and isinstance(found, keras.utils.PyDataset)


def _from_py_dataset(dataset: Any, target: Target) -> Pipeline:
    from prefetch_tuning.pipelines.adapters.py_dataset import PyDatasetPipeline

    _refuse_map(target, "a PyDataset")
    return PyDatasetPipeline(dataset, _named(target.model), target.step)


def _refuse_map(target: Target, what: str) -> None:
    if target.map:
        raise PipelineError(f"{target.main} is {what}: it does its own mapping, so leave out --map")


def _named(name: str | None) -> Any:
    return None if name is None else _attribute(name)


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
