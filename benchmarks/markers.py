"""Replaces the parts of a document that a benchmark writes, which are between two markers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class DocumentError(ValueError):
    """The document has no place for the table; the message says what is missing."""


def between_markers(text: str, name: str, content: Sequence[str]) -> str:
    """`text` with what is between `<!-- NAME:begin -->` and `<!-- NAME:end -->` replaced.

    Raises:
        DocumentError: the text doesn't have both markers once each, in this order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise DocumentError(f"it needs {begin} and, after it, {end}, once each")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n" + "\n".join(content) + f"\n{end}{after}"


def rewrite(path: Path, name: str, content: Sequence[str]) -> None:
    """Replaces what is between a document's markers.

    Raises:
        DocumentError: the document has no such markers.
    """
    try:
        text = between_markers(path.read_text(encoding="utf-8"), name, content)
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from None
    path.write_text(text, encoding="utf-8")
