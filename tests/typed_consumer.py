"""Code as users write it, for mypy to check against the wheel. Nothing runs it."""

from collections.abc import Iterator
from typing import Any

from prefetch_tuning import (
    GeneratorPipeline,
    PipelineConfig,
    PipelineError,
    Tuned,
    UsageError,
    build_dataset,
    load,
    load_config,
    tune,
)


class Rows(GeneratorPipeline):
    name = "rows"
    element_spec = ()
    batch_sizes = (32, 64)

    def generate(self, seed: int) -> Iterator[Any]:
        yield seed

    def transform_batch(self, *batch: Any) -> Any:
        return batch

    def build_model(self) -> Any:
        return None


def best_of(name: str) -> PipelineConfig:
    try:
        found: Tuned = tune(name, trials=12, axes="all", rounds=9, memory_limit_mib=512.0)
    except (PipelineError, UsageError) as error:
        raise SystemExit(str(error)) from None
    recommended = found.results[0].recommended
    return load_config(pipeline=name) if recommended is None else recommended.config


dataset = build_dataset(load("rows:Rows"), best_of("rows:Rows"))
# mypy --strict reports this ignore as unused unless it rejects the argument's type.
wrong = tune("rows:Rows", trials="twelve")  # type: ignore[arg-type]
