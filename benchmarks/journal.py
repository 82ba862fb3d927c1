"""An append-only file of JSON lines, which keeps measurements however the process ends."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from prefetch_tuning.experiments.errors import UsageError

HEADER = "header"
Line = dict[str, Any]
# Also dumps models inside lists and dicts.
ANYTHING = TypeAdapter(Any)


class JournalError(ValueError):
    """A file can't be continued; the message says why and what to do."""


class Journal:
    """The lines of one run, in the order in which they were added.

    The first line is the header. It pins what must be the same when the run resumes. Every other
    line has a `part` and a `key`, and a later line with the same part and key replaces the earlier
    one. If a kill cut off the last line, the line is dropped and measured again.

    Attributes:
        path: the file; its folder is created if it is missing.
    """

    def __init__(self, path: Path, pinned: Mapping[str, Any], **more: Any) -> None:
        """Starts or resumes a file; `more` is kept in the header but isn't compared.

        Raises:
            JournalError: the file was started with other pinned values, has other content, or
                another process is writing to it.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._lines: dict[tuple[str, str], Line] = {}
        try:
            self._begin(_plain(pinned), _plain(more))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; another process may then resume it."""
        self._file.close()

    def add(self, part: str, key: str, **fields: Any) -> Line:
        """Appends a line, syncs it to the disk and returns it as a reader would get it."""
        line = {"part": part, "key": key, **_plain(fields)}
        self._write(line)
        self._lines[part, key] = line
        return line

    def find(self, part: str, key: str) -> Line | None:
        """The line, or None if it isn't there yet."""
        return self._lines.get((part, key))

    def of(self, part: str) -> list[Line]:
        """All lines of a part."""
        return [line for (name, _), line in self._lines.items() if name == part]

    def _write(self, line: Line) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        os.fsync(self._file.fileno())

    def _begin(self, pinned: Line, more: Line) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"another process is writing {self.path}: wait for it") from None
        lines = read(self.path)
        self._drop_broken_end()
        if lines:
            self._check(lines[0]["pinned"], pinned)
        else:
            self._write({"part": HEADER, "pinned": pinned, **more})
        for line in lines[1:]:
            self._lines[line["part"], line["key"]] = line

    def _drop_broken_end(self) -> None:
        written = self.path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            self._file.truncate(whole)

    def _check(self, then: Line, pinned: Line) -> None:
        different = [name for name in {**then, **pinned} if then.get(name) != pinned.get(name)]
        if different:
            name = different[0]
            raise JournalError(
                f"{self.path} was started with other settings: {', '.join(different)} ({name} was "
                f"{_short(then.get(name))}, is {_short(pinned.get(name))}); move it away, or name "
                "another file"
            )


def run_to_resume(folder: Path, name: str) -> Path:
    """The file of the run that a user names.

    Raises:
        UsageError: there is no such run; the message lists those that there are.
    """
    path = folder / f"{name}.jsonl"
    if path.exists():
        return path
    there = ", ".join(sorted(file.stem for file in folder.glob("*.jsonl"))) or "none"
    raise UsageError(f"no run named {name!r} in {folder} (there are: {there})")


def header_of(path: Path) -> Line | None:
    """The first line of a file; None if it has no complete line.

    Raises:
        JournalError: the file isn't a journal.
    """
    lines = read(path)
    return lines[0] if lines else None


def read(path: Path) -> list[Line]:
    """All complete lines of a file, the header first; none if there is no file.

    Raises:
        JournalError: the file isn't a journal.
    """
    if not path.exists():
        return []
    *whole, rest = path.read_bytes().split(b"\n")
    begun = json.dumps({"part": HEADER})[:-1].encode()
    first = whole[0] if whole else rest
    try:
        lines = [json.loads(line) for line in whole]
    except ValueError:
        first = b"-"
    if first[: len(begun)] != begun[: len(first)]:
        raise JournalError(f"{path} isn't a file of measurements: name another one")
    return lines


def _plain(fields: Mapping[str, Any]) -> Line:
    """The fields after a round trip through JSON, so a new line equals one that was read."""
    found: Line = json.loads(json.dumps(ANYTHING.dump_python(dict(fields), mode="json")))
    return found


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
