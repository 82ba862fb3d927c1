"""`prefetch-tune new`: a commented pipeline that tunes as it is."""

from __future__ import annotations

from pathlib import Path

from prefetch_tuning.experiments.errors import UsageError

STARTER = Path(__file__).resolve().parent.parent / "pipelines" / "starter.py"


def write_starter(path: Path) -> str:
    """Writes the starter under the name of the file; returns what selects it on the command line.

    Raises:
        UsageError: the file is there already, is no module, or cannot be written.
    """
    name = path.stem
    if path.suffix != ".py" or not name.isidentifier():
        raise UsageError(f"{str(path)!r} is no module: give a name like my_pipeline.py")
    class_name = "".join(word.capitalize() for word in name.split("_")) or "Pipeline"
    text = STARTER.read_text(encoding="utf-8")
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
