"""Makes text from outside safe to print: no control characters that paint on a terminal."""

from __future__ import annotations

import unicodedata
from typing import Any

# Longer text than this is cut: a message has one line, and a name needn't be longer.
MOST_CHARACTERS = 4_000
# Control characters, and those that change the direction of the text around them.
UNSAFE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
KEPT = "\n\t"
REPLACEMENT = "\ufffd"


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    """The text without characters that a terminal or a reader would take for commands."""
    cut = text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(
        REPLACEMENT if unicodedata.category(c) in UNSAFE and c not in KEPT else c for c in cut
    )


def printable_json(value: Any, most: int = MOST_CHARACTERS) -> Any:
    """The same for each text in JSON, as it was read from a store."""
    if isinstance(value, str):
        return printable(value, most)
    if isinstance(value, dict):
        return {printable_json(k, most): printable_json(v, most) for k, v in value.items()}
    if isinstance(value, list):
        return [printable_json(item, most) for item in value]
    return value
