"""What names a pipeline in records: `module:attribute` and what else belongs to it, as one line.

A study logs this line, and every process that inspects, measures or reruns it takes all from there.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import Self

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.pipelines.source import PipelineError

# Anything that importlib can import; never more than a name is taken from a record.
ATTRIBUTE = re.compile(r"[\w-]+(?:\.[\w-]+)*:[A-Za-z_]\w*(?:\.\w+)*")
# The same by the module's file, as users type it.
FILE = re.compile(r"(?P<path>[^:,]+\.py):(?P<attribute>[A-Za-z_]\w*(?:\.\w+)*)")
STEP = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)ms")
# What a mixed precision computes in; the weights stay float32.
PRECISIONS = ("float16", "bfloat16")
# After the pipeline itself, in this order.
PARTS = ("map", "model", "step", "precision", "jit")


class Target(BaseModel):
    """One pipeline, by names that a trial's process can import; `str` gives its line.

    Attributes:
        main: `module:attribute` of a pipeline, a generator function, a dataset function or a
            PyDataset.
        map: of a plain generator function's map.
        model: of the function that makes its model.
        step_ms: milliseconds to sleep in place of a model's step.
        precision: "float16" or "bfloat16", for a model of mixed precision; None leaves it as it is.
        jit: compiles the model's step with XLA.
    """

    model_config = ConfigDict(frozen=True)

    main: str
    map: str | None = None
    model: str | None = None
    step_ms: float | None = None
    precision: str | None = None
    jit: bool = False

    @classmethod
    def parse(cls, line: str) -> Self:
        """Takes a line apart.

        Raises:
            PipelineError: it is not of the form that it must have.
        """
        main, *parts = line.split(",")
        given = dict[str, str]()
        for part in parts:
            key, equals, value = part.partition("=")
            # In their order and once, so that a pipeline has one line.
            later = PARTS[PARTS.index(next(reversed(given))) + 1 :] if given else PARTS
            if not equals or key not in later:
                raise _malformed(line)
            given[key] = value
        step = STEP.fullmatch(given.get("step", "0ms"))
        if step is None or given.get("jit", "true") != "true":
            raise _malformed(line)
        check_precision(given.get("precision"))
        return cls(
            main=_attribute(main, line),
            map=_attribute(given["map"], line) if "map" in given else None,
            model=_attribute(given["model"], line) if "model" in given else None,
            step_ms=float(step[1]) if "step" in given else None,
            precision=given.get("precision"),
            jit="jit" in given,
        )

    def __str__(self) -> str:
        # As many decimals as `STEP` takes, and never an exponent.
        step = None if self.step_ms is None else f"{self.step_ms:.6f}".rstrip("0").rstrip(".")
        said = {
            "map": self.map,
            "model": self.model,
            "step": None if step is None else f"{step}ms",
            "precision": self.precision,
            "jit": "true" if self.jit else None,
        }
        return ",".join([self.main, *(f"{key}={said[key]}" for key in PARTS if said[key])])

    @property
    def without_model_options(self) -> Target:
        """The same code, without precision and jit."""
        return self.model_copy(update={"precision": None, "jit": False})


def compose(
    target: str,
    transform: str | None = None,
    model: str | None = None,
    step_ms: float | None = None,
    *,
    precision: str | None = None,
    jit: bool = False,
) -> str:
    """The line of `target` with what is said beside it; where nothing is, it stays as it is.

    Args:
        target: a resolved one.
        transform: `module:attribute` of a plain generator function's map.
        model: of its model.
        step_ms: milliseconds to sleep in place of a model's step.
        precision: "float16" or "bfloat16", for a model of mixed precision.
        jit: compiles the model's step with XLA.

    Raises:
        PipelineError: one of them is not of the form that it must have.
    """
    check_precision(precision)
    said = {
        "map": None if transform is None else _attribute(transform, f"--map {transform!r}"),
        "model": None if model is None else _attribute(model, f"--model {model!r}"),
        "step_ms": step_ms,
        "precision": precision,
        "jit": jit or None,
    }
    given = {key: value for key, value in said.items() if value is not None}
    return str(Target.parse(target).model_copy(update=given))


def check_precision(precision: str | None) -> None:
    """Raises PipelineError where there is no such precision."""
    if precision is not None and precision not in PRECISIONS:
        raise PipelineError(f"mixed precision must be {' or '.join(PRECISIONS)}, not {precision!r}")


def _attribute(text: str, where: str) -> str:
    """`module:attribute` as it is, or from `file.py:attribute`."""
    if found := FILE.fullmatch(text):
        return f"{_module(found['path'])}:{found['attribute']}"
    if ATTRIBUTE.fullmatch(text) is None:
        raise _malformed(where)
    return text


def _module(path: str) -> str:
    """The module that a file is, from where trials import: the current directory."""
    here = Path.cwd()
    file = here / path
    if not file.is_file():
        raise PipelineError(f"there is no file {path!r} in {here}")
    if not file.resolve().is_relative_to(here.resolve()):
        raise PipelineError(
            f"{path!r} lies outside of {here}, where pipelines are imported from; run this in its "
            "folder"
        )
    parts = PurePath(file.resolve().relative_to(here.resolve())).with_suffix("").parts
    if not all(part.isidentifier() for part in parts):
        raise PipelineError(f"{path!r} cannot be imported: its path has a part that is no name")
    return ".".join(parts)


def _malformed(what: str) -> PipelineError:
    quoted = what if what.startswith("--") else repr(what)
    return PipelineError(
        f"{quoted} is not of the form module:attribute, as in data:Shards or data.py:Shards"
    )
