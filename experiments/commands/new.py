"""`prefetch-tune new`: a commented pipeline that tunes as it is."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from prefetch_tuning.experiments.commands.arguments import Commands, add_command
from prefetch_tuning.experiments.errors import EXIT_OK, UsageError


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "new", run, "write a commented pipeline to start from")
    command.add_argument("file", type=Path, metavar="FILE", help="like my_pipeline.py")


def run(options: argparse.Namespace) -> int:
    selector = write_starter(options.file)
    print(f"{options.file} is there; tune it with: prefetch-tune tune {selector}")  # noqa: T201
    return EXIT_OK


def write_starter(path: Path) -> str:
    """Writes the starter under the name of the file; returns what selects it on the command line.

    Raises:
        UsageError: the file is there already, is no module, or cannot be written.
    """
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(f"{str(path)!r} is no module: give a name like my_pipeline.py")
    class_name = "".join(word.capitalize() for word in name.split("_")) or "Pipeline"
    text = files("prefetch_tuning.pipelines").joinpath("starter.py").read_text(encoding="utf-8")
    # Here it is a file of the lowest floor; there it is a user's.
    text = text.replace("prefetch_tuning.pipelines.source import", "prefetch_tuning import")
    text = text.replace('name = "starter"', f'name = "{name}"')
    text = text.replace("class Starter(", f"class {class_name}(")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{str(path)!r} is there already; choose another name") from None
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {error.strerror}") from error
    return f"{name}:{class_name}"
