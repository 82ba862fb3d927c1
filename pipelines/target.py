"""Defines the line that names a pipeline in records: `module:attribute` or a script, and options.

A study logs this line. Every process that inspects, measures or reruns the pipeline needs nothing
else to find it.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Self
from urllib.parse import quote, unquote

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

# Any name that importlib can import. Nothing but a name is ever accepted from a record.
ATTRIBUTE = re.compile(r"[\w-]+(?:\.[\w-]+)*:[A-Za-z_]\w*(?:\.\w+)*")
# The same with the module's file, as users type it.
FILE = re.compile(r"(?P<path>[^:,]+\.py):(?P<attribute>[A-Za-z_]\w*(?:\.\w+)*)")
# A training script, below the current directory.
SCRIPT = re.compile(r"[^:,]+\.py")
# The types that mixed precision computes in; the weights stay float32.
PRECISIONS = ("float16", "bfloat16")
# The options that may follow the pipeline, in this order.
PARTS = ("map", "model", "step", "precision", "jit", "sizes", "fit", "args")
# Those that only a script has.
OF_SCRIPTS = {"sizes", "fit", "args"}
# Characters of a script's arguments that the line has as they are.
PLAIN = "/=+-_.~"


class Target(BaseModel):
    """One pipeline, as names that a trial's process can import; `str` gives its line.

    Attributes:
        main: `module:attribute` of a pipeline, a generator function, a dataset function or a
            PyDataset; or the path of a training script.
        map: `module:attribute` of a plain generator function's map.
        model: `module:attribute` of the function that makes its model.
        step: how long an emulated step takes, in place of the model's own.
        precision: "float16" or "bfloat16", for mixed precision; None leaves the model as it is.
        jit: compiles the model's step with XLA.
        sizes: the batch sizes to search in a script; empty for its own.
        fit: which of a script's calls of `fit` on data from Python is meant, from 1.
        args: the script's arguments.
    """

    model_config = ConfigDict(frozen=True)

    main: str
    map: str | None = None
    model: str | None = None
    step: StepTime | None = None
    precision: str | None = None
    jit: bool = False
    sizes: tuple[int, ...] = ()
    fit: int = 1
    args: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: str) -> Self:
        """Parses a line.

        Raises:
            PipelineError: the line doesn't have the required form, or there is no such precision.
        """
        main, *parts = line.split(",")
        given = dict[str, str]()
        for part in parts:
            key, equals, value = part.partition("=")
            # Each option at most once and in order, so each pipeline has exactly one line.
            later = PARTS[PARTS.index(next(reversed(given))) + 1 :] if given else PARTS
            if not equals or key not in later:
                raise _malformed(line)
            given[key] = value
        if given.get("jit", "true") != "true":
            raise _malformed(line)
        check_precision(given.get("precision"))
        is_script = SCRIPT.fullmatch(main) is not None
        fit = given.get("fit", "1")
        if not is_script and OF_SCRIPTS & given.keys():
            raise _malformed(line)
        sizes = given["sizes"].split("/") if "sizes" in given else []
        for name, number in [("fit", fit), *(("sizes", size) for size in sizes)]:
            if not number.isdecimal() or int(number) < 1:
                raise PipelineError(
                    f"{line!r}: {name} must be a whole number from 1, not {number!r}"
                )
        return cls(
            main=_script(main) if is_script else _attribute(main, line),
            map=_attribute(given["map"], line) if "map" in given else None,
            model=_attribute(given["model"], line) if "model" in given else None,
            step=StepTime.parse(given["step"]) if "step" in given else None,
            precision=given.get("precision"),
            jit="jit" in given,
            sizes=tuple(map(int, sizes)),
            fit=int(fit),
            args=tuple(shlex.split(unquote(given.get("args", "")))),
        )

    def __str__(self) -> str:
        said = {
            "map": self.map,
            "model": self.model,
            "step": None if self.step is None else str(self.step),
            "precision": self.precision,
            "jit": "true" if self.jit else None,
            "sizes": "/".join(map(str, self.sizes)),
            "fit": str(self.fit) if self.fit > 1 else None,
            "args": quote(shlex.join(self.args), safe=PLAIN) if self.args else None,
        }
        return ",".join([self.main, *(f"{key}={said[key]}" for key in PARTS if said[key])])

    @property
    def is_script(self) -> bool:
        """Whether it names a training script."""
        return ":" not in self.main

    @property
    def without_model_options(self) -> Target:
        """The same target without what only changes the step: its time, precision and jit."""
        return self.model_copy(update={"step": None, "precision": None, "jit": False})


def compose(
    target: str,
    transform: str | None = None,
    model: str | None = None,
    step: StepTime | None = None,
    *,
    precision: str | None = None,
    jit: bool = False,
    sizes: Sequence[int] | None = None,
    fit: int | None = None,
    args: Sequence[str] = (),
) -> str:
    """Returns the line of `target` with these options; options not given stay as they are.

    Args:
        target: a resolved target.
        transform: `module:attribute` of a plain generator function's map.
        model: `module:attribute` of the function that makes its model.
        step: how long an emulated step takes, in place of the model's own.
        precision: "float16" or "bfloat16", for mixed precision.
        jit: compiles the model's step with XLA.
        sizes: the batch sizes to search in a script.
        fit: which of a script's calls of `fit` is meant.
        args: the script's arguments.

    Raises:
        PipelineError: an argument doesn't have the required form, or doesn't go with the target.
    """
    check_precision(precision)
    is_script = Target.parse(target).is_script
    if is_script and (transform, model) != (None, None):
        raise PipelineError(
            f"{target} is a training script: it has its own map and model, so leave out --map and "
            "--model"
        )
    if not is_script and (sizes is not None or fit is not None or args):
        raise PipelineError(
            f"{target} isn't a training script: leave out --batch-sizes, --fit and what follows --"
        )
    said = {
        "map": None if transform is None else _attribute(transform, f"--map {transform!r}"),
        "model": None if model is None else _attribute(model, f"--model {model!r}"),
        "step": step,
        "precision": precision,
        "jit": jit or None,
        "sizes": None if sizes is None else tuple(sizes),
        "fit": fit,
        "args": tuple(args) or None,
    }
    given = {key: value for key, value in said.items() if value is not None}
    return str(Target.parse(target).model_copy(update=given))


def check_precision(precision: str | None) -> None:
    """Raises PipelineError if there is no such precision."""
    if precision is not None and precision not in PRECISIONS:
        raise PipelineError(f"mixed precision must be {' or '.join(PRECISIONS)}, not {precision!r}")


def _attribute(text: str, where: str) -> str:
    """Returns `module:attribute`, converted from `file.py:attribute` if needed."""
    if found := FILE.fullmatch(text):
        return f"{_module(found['path'])}:{found['attribute']}"
    if ATTRIBUTE.fullmatch(text) is None:
        raise _malformed(where)
    return text


def _script(path: str) -> str:
    """The path of a script, from the current directory; a record must not have another file run.

    It needn't be there: a report of the study may be made elsewhere.
    """
    here = Path.cwd()
    found = Path(os.path.normpath(here / path))
    if not found.is_relative_to(here):
        raise PipelineError(
            f"{path!r} is outside {here}; run this command in the script's folder or above it"
        )
    return found.relative_to(here).as_posix()


def _module(path: str) -> str:
    """The module name of a file, as trials import it from the current directory."""
    here = Path.cwd()
    file = here / path
    if not file.is_file():
        raise PipelineError(f"there is no file {path!r} in {here}")
    if not file.resolve().is_relative_to(here.resolve()):
        raise PipelineError(
            f"{path!r} is outside {here}, from which pipelines are imported; run this command in "
            "the file's folder"
        )
    parts = PurePath(file.resolve().relative_to(here.resolve())).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise PipelineError(
            f"{path!r} cannot be imported: its path has a part that isn't a Python name; rename it"
        )
    return ".".join(parts)


def _malformed(what: str) -> PipelineError:
    quoted = what if what.startswith("--") else repr(what)
    return PipelineError(
        f"{quoted} is not of the form module:attribute, as in data:Shards or data.py:Shards"
    )
