"""Writes the pages in docs/reference/ from the code: reference.py [--check]."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

# When this runs as a script, Python searches this folder for modules, not the one above it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prefetch_tuning.experiments import cli
from prefetch_tuning.experiments.host.environment import ENVIRONMENT_TAGS
from prefetch_tuning.experiments.storage import schema
from prefetch_tuning.objectives.spec import PARAMS, STOP_PREFIX, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import BOUNDS, PipelineConfig

FOLDER = Path(__file__).resolve().parent / "reference"
CAPITALS = "A word in capitals in a name stands for several names."
FORMS: dict[int | str | None, str] = {None: "{}", 0: "", 1: "{}", "?": "[{}]", "*": "[{} ...]"}
TYPES = {int: "whole number", float: "number", str: "text", bool: "`True`, `False`"}
LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
Tables = Mapping[str, Iterable[Sequence[str]]]  # rows by heading


def main(arguments: Sequence[str]) -> int:
    """Writes the pages; with --check, only names those that are out of date and returns 1."""
    parser = argparse.ArgumentParser(description="Write docs/reference/ from the code.")
    parser.add_argument("--check", action="store_true", help="only name pages that are out of date")
    check = parser.parse_args(arguments).check
    outdated = False
    for name, text in pages().items():
        path = FOLDER / name
        if not check:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"docs/reference/{name} is out of date; run `python docs/reference.py`")
            outdated = True
    return int(outdated)


def pages() -> dict[str, str]:
    """The text of each page, by the name of its file."""
    return {f"{make.__name__}.md": make() for make in (options, parameters, metrics, tags)}


def options() -> str:
    """The commands and their options, which argparse has no public way to list."""
    about = "The commands of `prefetch-tune` and their options. Each command also has `--help`."
    commands = next(a.choices for a in cli.parser()._actions if isinstance(a.choices, dict))
    tables: dict[str, list[tuple[str, str]]] = {}
    for name, command in commands.items():
        text = command.description
        taken = [action for action in command._actions if action.dest != "help"]
        rows = [(usage(action), (action.help or "") % vars(action)) for action in taken]
        tables[f"prefetch-tune {name}\n\n{text[0].upper()}{text[1:]}."] = rows
    return page("Options", about, ("option", "meaning"), tables)


def usage(action: argparse.Action) -> str:
    """How a user types an argument, like `--rounds N`, `[PIPELINE ...]` or `--device {cpu,gpu}`."""
    value = "{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper()
    form = FORMS[action.nargs].format(action.metavar or value)
    return f"{', '.join(action.option_strings)} {form}".strip()


def parameters() -> str:
    """The parameters of trials."""
    about = "The parameters that MLflow shows for each trial, round and rerun."
    tables = {
        "The tf.data chain": fields(PipelineConfig),
        "The pipeline and where it runs": fields(TrialSpec),
        "The start-up and the end of the measurement": fields(StopRule, STOP_PREFIX),
    }
    return page("Parameters", about, ("parameter", "values", "default", "meaning"), tables)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, ...]]:
    """The rows of a model's logged fields; their meanings are in the model's docstring."""
    said: dict[str, str] = {}
    attributes = inspect.cleandoc(model.__doc__ or "").partition("Attributes:")[2]
    for entry in re.split(r"\n {4}(?=\S)", attributes.split("\n\n")[0])[1:]:
        names, _, meaning = entry.partition(":")
        said |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    logged = {name: f for name, f in model.model_fields.items() if prefix or name in PARAMS}
    for name, field in logged.items():
        bounds = {k: getattr(r, k) for r in field.metadata for k in LIMITS if hasattr(r, k)}
        if name in BOUNDS:
            bounds["ge"], bounds["le"] = BOUNDS[name]
        default = "required" if field.is_required() else f"`{field.default}`"
        yield prefix + name, values(field.annotation, bounds), default, said[name]


def values(kind: Any, bounds: Mapping[str, float]) -> str:
    """The values of a type in words, like "whole number from 0 to 4,096 or `auto`"."""
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if parts := get_args(kind):
        return " or ".join(values(part, bounds) for part in parts)
    if bounds.keys() == {"ge", "le"}:
        return f"{TYPES[kind]} from {bounds['ge']:,} to {bounds['le']:,}"
    return ", ".join([TYPES[kind], *(f"{LIMITS[k]} {bound:,}" for k, bound in bounds.items())])


def metrics() -> str:
    """The metrics, by the run that has them."""
    about = f"The metrics that prefetch-tune logs to MLflow, with their units. {CAPITALS}"
    tables = {
        "Trials, rounds and reruns": schema.TRIAL_METRICS,
        "The limit's terms in one round": schema.LIMIT_METRICS,
        "Parent run of a study": schema.STUDY_METRICS,
        "Self-test": schema.SELFTEST_METRICS,
        "Step time": schema.STEP_TIME_METRICS,
        "A training with InputMonitor": schema.MONITOR_METRICS,
    }
    rows = {heading: [(name, *m) for name, m in found.items()] for heading, found in tables.items()}
    return page("Metrics", about, ("metric", "unit", "meaning"), rows)


def tags() -> str:
    """The kinds of runs and the tags, by the run that has them."""
    about = f"The tags of the runs that prefetch-tune logs to MLflow. {CAPITALS}"
    tables: Tables = {
        "Kinds of runs: the values of the tag `kind`": schema.KINDS.items(),
        "Every run of a study": schema.RUN_TAGS.items(),
        "Trials, rounds and reruns": schema.CHILD_TAGS.items(),
        "Parent run of a study": schema.STUDY_TAGS.items(),
        "Environment of every run, including self-tests": ENVIRONMENT_TAGS.items(),
    }
    return page("Tags", about, ("name", "meaning"), tables)


def page(title: str, about: str, head: Sequence[str], tables: Tables) -> str:
    """A page with one table per heading, or none without rows; its first column is code."""
    parts = [f"<!-- Made by docs/reference.py; do not edit. -->\n\n# {title}\n\n{about}\n"]
    for heading, rows in tables.items():
        body = [[f"`{name}`", *row] for name, *row in rows]
        lines = [[*head], ["---"] * len(head), *body] if body else []
        text = [" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines]
        parts.append("\n".join([f"## {heading}\n", *(f"| {line} |" for line in text), ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
