"""Every code block of README and docs works: files are written, commands run, shortened."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from prefetch_tuning.experiments import cli
from tests.conftest import HANG_S, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Pages whose blocks build on each other, in a folder of their own.
TRIED = ("README.md", "quickstart.md", "your-pipeline.md", "monitor.md")
# Not for its speed: its confirmation has dozens of trials, which wait for their turns beside other
# tests.
MARKS = {"quickstart.md": pytest.mark.timing}
PROGRAM = ".venv/bin/prefetch-tune"
RUN = (sys.executable, "-c", "from prefetch_tuning.experiments.cli import run; run()")
SHORT = ("--trials", "2", "--batch-size", "32", "--device", "cpu")


class Block(NamedTuple):
    """A fenced block: its page, its language and its text."""

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that a block of Python names in its first line."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [Block(page, language, text) for language, text in found]


def commands(block: Block) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in block.text.splitlines() if line.strip()]


BLOCKS = [block for page in PAGES for block in blocks(page)]
COMMANDS = [(b.page.name, words) for b in BLOCKS if b.language == "sh" for words in commands(b)]


def test_every_block_is_code_that_is_tried_or_output() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "python", "text", "yaml"}
    assert [
        block.page.name for block in BLOCKS if block.language == "python" and not block.file
    ] == []
    pages = {block.page.name for block in BLOCKS if block.language == "python"}
    assert pages <= {*TRIED, "report.md"}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: " ".join(value)[:60])
def test_every_command_is_one(page: str, words: list[str]) -> None:
    if words[0] == "make":
        done = subprocess.run(
            ["make", "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{page}: {done.stderr}"
    elif words[0] == PROGRAM:
        cli.parsed(words[1:])
    else:
        entry = words[words.index("-e") + 1]
        assert words[:3] == [".venv/bin/mlflow", "run", "."], page
        assert f"  {entry}:" in (ROOT / "MLproject").read_text()


def test_the_compose_file_has_both_servers() -> None:
    [block] = [b for b in BLOCKS if (b.page.name, b.language) == ("team-stores.md", "yaml")]
    services = re.findall(r"^  (\w+):\n    image", block.text, re.MULTILINE)

    assert services == ["postgres", "databases", "mlflow"]
    # Nothing listens on other addresses than this host's own.
    ports = re.findall(r'ports: \["([^"]+)"\]', block.text)
    assert len(ports) == block.text.count("ports:") == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(page, marks=MARKS.get(page, ())) for page in TRIED])
def test_the_blocks_of_a_page_run_in_their_order(page: str, tmp_path: Path) -> None:
    [path] = [path for path in PAGES if path.name == page]
    # A page that trains with the result needs a recommendation, and so a confirmation.
    trains = "load_config(" in path.read_text() and page != "README.md"
    confirm = ("--confirm-budget", "1") if trains else ("--no-confirm",)
    ran = 0
    for block in blocks(path):
        if block.language == "python":
            assert block.file is not None
            text = block.text.replace("trials=12", "trials=2, rounds=0")
            (tmp_path / block.file).write_text(text)
            # The training of README needs a study of `image`: tests/test_load_config.py has one.
            if re.search(
                r"^(pipeline\.|if __name__|model\.fit\(dataset, epochs|for batch)",
                text,
                re.MULTILINE,
            ):
                run(tmp_path, sys.executable, block.file)
                ran += 1
        elif block.language == "sh":
            for words in commands(block):
                # The one for a GPU is only parsed.
                if words[:2] == [PROGRAM, "tune"] and "gpu" not in words:
                    ends = confirm if "--model" in words else ("--no-confirm",)
                    run(tmp_path, *RUN, *words[1:], *SHORT, *ends)
                    ran += 1
    assert ran


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
