"""Rebuilds what Optuna's storage keeps as JSON."""

from __future__ import annotations

import json
from functools import cache
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.pipelines.config import one_line
from prefetch_tuning.pipelines.printable import printable_json

# Of a stored text. The spec of an element with many features is code, which must not be cut.
LONGEST = 1_000_000

M = TypeVar("M", bound=BaseModel)


def read_stored(model: type[M], kept: object, **more: object) -> M:
    """Rebuilds a model from its stored form and what isn't stored with it.

    Raises:
        StudyError: another version stored it in a form that this version doesn't accept.
    """
    try:
        # As a text, an attribute takes a fifth of the memory in Optuna's cache of the trials.
        found = printable_json(json.loads(kept) if isinstance(kept, str) else kept, LONGEST)
        return model.model_validate({**found, **more} if more else found)
    except ValueError as error:
        reason = one_line(error) if isinstance(error, ValidationError) else str(error)
        raise StudyError(
            f"this study was made by another version of prefetch-tuning: {reason}; "
            "tune again with a new --study name"
        ) from None


def lean(model: M) -> M:
    """The same model; the names of its fields, which take most of its memory, are shared."""
    return model.model_construct(_fields_set=_field_names(type(model)), **dict(model))


@cache
def _field_names(model: type[BaseModel]) -> set[str]:
    return set(model.model_fields)
