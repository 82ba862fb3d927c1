"""`prefetch-tune new`: write a commented pipeline, which can be tuned as it is."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from prefetch_tuning.experiments.commands.arguments import Commands, add_command
from prefetch_tuning.experiments.errors import EXIT_OK, UsageError


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "new", run, "write a commented pipeline to start from")
    command.add_argument("file", type=Path, metavar="FILE", help="new file, like my_pipeline.py")


def run(options: argparse.Namespace) -> int:
    selector = write_starter(options.file)
    print(f"wrote {options.file}; tune it with: prefetch-tune tune {selector}")  # noqa: T201
    return EXIT_OK


def write_starter(path: Path) -> str:
    """Writes the starter pipeline; returns what selects it, like `rows.py:Rows`.

    Raises:
        UsageError: the file already exists, cannot be written, or its name isn't a module's.
    """
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(
            f"{str(path)!r} isn't a Python module name: choose one like my_pipeline.py"
        )
    class_name = "".join(word.capitalize() for word in name.split("_")) or "Pipeline"
    text = files("prefetch_tuning.pipelines").joinpath("starter.py").read_text(encoding="utf-8")
    # The starter is part of the lowest floor, which must not import from above. A user's copy
    # imports the public name.
    text = text.replace("prefetch_tuning.pipelines.source import", "prefetch_tuning import")
    text = text.replace('name = "starter"', f'name = "{name}"')
    text = text.replace("class Starter(", f"class {class_name}(")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{str(path)!r} already exists; choose another name") from None
    except OSError as error:
        raise UsageError(
            f"cannot write {str(path)!r}: {error.strerror}; choose another folder"
        ) from error
    return f"{path}:{class_name}"
