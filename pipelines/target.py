"""What names a pipeline in records: `module:attribute` and what else belongs to it, as one line.

A study logs this line, and every process that inspects, measures or reruns it takes all from there.
"""

from __future__ import annotations

import re

from prefetch_tuning.pipelines.source import PipelineError

# Anything that importlib can import; never more than a name is taken from a record.
ATTRIBUTE = r"[\w-]+(?:\.[\w-]+)*:[A-Za-z_]\w*(?:\.\w+)*"
# What a mixed precision computes in; the weights stay float32.
PRECISIONS = ("float16", "bfloat16")
# A plain generator function comes with what else is needed: a map, and a model or a time to sleep.
# How the model computes can be said of any pipeline.
TARGET = (
    rf"(?P<main>{ATTRIBUTE})(?:,map=(?P<map>{ATTRIBUTE}))?(?:,model=(?P<model>{ATTRIBUTE}))?"
    r"(?:,step=(?P<step>\d{1,6}(?:\.\d{1,6})?)ms)?"
    rf"(?:,precision=(?P<precision>{'|'.join(PRECISIONS)}))?(?:,jit=(?P<jit>true))?"
)


def compose(
    target: str,
    transform: str | None = None,
    model: str | None = None,
    step_ms: float | None = None,
    *,
    precision: str | None = None,
    jit: bool = False,
) -> str:
    """`target` with what was said beside it; what it says itself stays where nothing was.

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
    for option, part in (("--map", transform), ("--model", model)):
        if part is not None and not re.fullmatch(ATTRIBUTE, part):
            raise PipelineError(f"{option} {part!r} is not of the form module:attribute")
    check_precision(precision)
    said = {
        "map": transform,
        "model": model,
        "step": None if step_ms is None else f"{step_ms:g}ms",
        "precision": precision,
        "jit": "true" if jit else None,
    }
    # Split and put together in one order, so that options may come on top of options.
    main, *own = target.split(",")
    given: dict[str, str | None] = {}
    for part in own:
        key, _, value = part.partition("=")
        given[key] = value
    given |= {key: value for key, value in said.items() if value is not None}
    return ",".join([main, *(f"{key}={given[key]}" for key in said if given.get(key))])


def check_precision(precision: str | None) -> None:
    """Raises PipelineError where there is no such precision."""
    if precision is not None and precision not in PRECISIONS:
        raise PipelineError(f"mixed precision must be {' or '.join(PRECISIONS)}, not {precision!r}")


def without_model_options(target: str) -> str:
    """`target` without precision and jit: it names the same code."""
    parts = target.split(",")
    return ",".join(part for part in parts if not part.startswith(("precision=", "jit=")))
