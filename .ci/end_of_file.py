"""Each file that is named ends in one newline: `end_of_file.py FILE ...` mends those that do not."""

from __future__ import annotations

import sys
from pathlib import Path


def mend(path: Path) -> bool:
    """Whether the file had to be mended."""
    text = path.read_bytes()
    mended = text.rstrip(b"\r\n") + b"\n" if text.strip() else b""
    if mended == text:
        return False
    path.write_bytes(mended)
    return True


if __name__ == "__main__":
    found = [name for name in sys.argv[1:] if mend(Path(name))]
    for name in found:
        sys.stdout.write(f"mended the end of {name}\n")
    sys.exit(bool(found))
