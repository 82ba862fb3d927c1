"""A finished run before it is in MLflow: everything that is written, in a form that can be kept."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from pydantic import BaseModel, ConfigDict, Field

# MLflow takes at most 36 characters as the digest of a dataset.
DIGEST_CHARACTERS = 36
# JSON has no NaN, but metrics do.
WITH_NAN = ConfigDict(frozen=True, ser_json_inf_nan="constants")


class Point(BaseModel):
    """One value of a metric at a step; `at_ms` is in milliseconds since 1970."""

    model_config = WITH_NAN

    key: str
    value: float
    at_ms: int
    step: int = 0

    @property
    def metric(self) -> Metric:
        """The same for MLflow."""
        return Metric(self.key, self.value, self.at_ms, self.step)


class Read(BaseModel):
    """The data that a run read: an MLflow dataset."""

    model_config = ConfigDict(frozen=True)

    name: str
    digest: str
    source: str

    @property
    def dataset_input(self) -> DatasetInput:
        """The same for MLflow."""
        dataset = Dataset(
            name=self.name,
            digest=self.digest[:DIGEST_CHARACTERS],
            source_type="code",
            source=self.source,
        )
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


class RunDraft(BaseModel):
    """One finished run.

    Attributes:
        own_id: this project's id for the run, to find it if MLflow may or may not have received it.
        experiment: name of the run's experiment; None for the parent's experiment.
        parent_id: run id of its parent; None if it has none.
        start_ms: when it began, in milliseconds since 1970; None for now.
        status: MLflow's status.
        texts: names of artifacts and their texts.
        read: the data that it read; None if that isn't recorded.
    """

    model_config = ConfigDict(frozen=True)

    own_id: str = Field(default_factory=lambda: uuid4().hex)
    experiment: str | None = None
    parent_id: str | None = None
    name: str
    start_ms: int | None = None
    status: str = "FINISHED"
    tags: dict[str, str]
    params: dict[str, str] = {}
    points: list[Point] = []
    texts: dict[str, str] = {}
    read: Read | None = None


class Summary(BaseModel):
    """The end of a study: what its parent run gets."""

    model_config = WITH_NAN

    run_id: str
    interrupted: bool
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    texts: dict[str, str]


def points(values: Mapping[str, float]) -> list[Point]:
    """Metrics with the current time, each with a single value."""
    now_ms = int(time.time() * 1_000)
    return [Point(key=key, value=float(value), at_ms=now_ms) for key, value in values.items()]


def series(key: str, values: Sequence[float]) -> list[Point]:
    """A metric with the current time and one value per step."""
    now_ms = int(time.time() * 1_000)
    return [
        Point(key=key, value=float(value), at_ms=now_ms, step=step)
        for step, value in enumerate(values)
    ]


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as MLflow keeps them."""
    return {key: str(value) for key, value in values.items()}
