"""What is searched and recorded: studies, their runs, and the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api import tune as tune


def __getattr__(name: str) -> Any:
    # Only who asks for it waits for Optuna and MLflow to be imported.
    if name == "tune":
        from experiments.api import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
