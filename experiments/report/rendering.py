"""Loads the report's templates, and escapes text for each kind of document."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def environment() -> Environment:
    """The templates' environment: it escapes HTML, and raises for a misspelt name."""
    made = Environment(
        loader=PackageLoader("prefetch_tuning.experiments.report", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"one_line": one_line, "unbroken": unbroken, "markdown": markdown}
    return made


def one_line(text: str) -> str:
    """Removes line breaks, so text from a user cannot leave a comment."""
    return " ".join(text.split())


def unbroken(text: str) -> str:
    """Keeps a number and its unit, or its setting, on one line of a narrow page."""
    text = re.sub(r"(?<=\d) (?=%|MiB|µs|s\b|examples/s)", "\u00a0", text)
    return re.sub(r"\b(batch|prefetch|map) (?=\d)", "\\1\u00a0", text)


def markdown(text: str) -> str:
    """Escapes text for Markdown, so it cannot be markup or HTML, or end a line or a cell."""
    return re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", one_line(text)).replace("&", "&amp;")
