"""The names that users import: each exists, is typed, and costs nothing until it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import prefetch_tuning

HEAVY = {"tensorflow", "keras", "optuna", "mlflow", "scipy", "pandas", "plotly", "pydantic"}


@pytest.mark.parametrize("name", prefetch_tuning.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(prefetch_tuning, name).__name__ == name
    assert name in dir(prefetch_tuning)


def test_type_checkers_see_the_names_that_there_are() -> None:
    tree = ast.parse(Path(str(prefetch_tuning.__file__)).read_text(encoding="utf-8"))
    [typed] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: f"{node.module}"
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == {
        name: f"prefetch_tuning.{home}" for name, home in prefetch_tuning._HOMES.items()
    }


def test_importing_the_package_imports_nothing_else() -> None:
    code = f"import sys, prefetch_tuning; sys.exit(bool({HEAVY!r} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'prefetch_tuning' has no attribute 'tuna'"):
        _ = prefetch_tuning.tuna
