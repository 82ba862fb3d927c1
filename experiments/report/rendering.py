"""The report's templates: where they are, and how words are made safe in each kind of document."""

from __future__ import annotations

import re

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def environment() -> Environment:
    """Escapes everything in HTML; a name that a template misspells is an error, not a gap."""
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
    """Without line breaks, so that a person's words cannot leave a comment."""
    return " ".join(text.split())


def unbroken(text: str) -> str:
    """A number and its unit, or what it sets, stay on one line of a narrow page."""
    text = re.sub(r"(?<=\d) (?=%|MiB|µs|s\b|examples/s)", "\u00a0", text)
    return re.sub(r"\b(batch|prefetch|map) (?=\d)", "\\1\u00a0", text)


def markdown(text: str) -> str:
    """Plain words in Markdown: nothing in them is markup, HTML, or the end of a line or cell."""
    return re.sub(r"([\\`*_{}\[\]<>|~#])", r"\\\1", one_line(text)).replace("&", "&amp;")
