"""The symptoms, each with a pipeline that has it and the changes that users try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

AUDIT, HERE = "benchmarks.audit.planted", "benchmarks.symptoms.planted"
BUILTIN = "prefetch_tuning.pipelines.builtin"
NOW = "AUTOTUNE"


@dataclass(frozen=True)
class Change:
    """Something that a user could do.

    Attributes:
        words: what it is, as a cell of the table.
        config: the configuration.
        target: another pipeline, if the change is in the pipeline's code.
    """

    words: str
    config: PipelineConfig
    target: str | None = None


@dataclass(frozen=True)
class Case:
    """A symptom.

    Attributes:
        key: names its place in docs/symptoms.md.
        target: the pipeline that has it.
        changes: the first is how the pipeline runs now: with AUTOTUNE.
    """

    key: str
    target: str
    changes: Sequence[Change]


def case(key: str, target: str, batch_size: int, *changes: Change) -> Case:
    """A symptom of a pipeline that runs with AUTOTUNE now."""
    return Case(key, target, [Change(NOW, PipelineConfig.autotune(batch_size)), *changes])


def change(
    words: str, batch_size: int, prefetch: int = 4, calls: int = 2, target: str = "", **more: Any
) -> Change:
    """A change to fixed settings."""
    config = PipelineConfig(
        batch_size=batch_size, prefetch_buffer=prefetch, map_parallelism=calls, **more
    )
    return Change(words, config, target or None)


def on_autotune(words: str, batch_size: int, target: str = "", **more: Any) -> Change:
    """A change of the structure or of the pipeline's code, with AUTOTUNE for the rest."""
    return Change(words, PipelineConfig.autotune(batch_size, **more), target or None)


CASES = (
    case(
        "small-elements",
        f"{BUILTIN}.simple:SimplePipeline",
        256,
        change("`prefetch(64)`", 256, prefetch=64),
        change("16 map calls", 256, calls=16),
        change("2 processes", 256, generator_workers=2),
        on_autotune("blocks of 32 elements", 256, generator_chunk=32),
        on_autotune("blocks of 512 elements", 256, generator_chunk=512),
        on_autotune("blocks of 512, map on batches", 256, generator_chunk=512, vectorized_map=True),
    ),
    case(
        "waiting-map",
        f"{AUDIT}:BlockingMap",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        change("64 map calls", 32, calls=64),
        change("8 map calls, 16 threads", 32, calls=8, thread_pool_size=16),
        change("64 map calls, a thread per call", 32, calls=64, thread_pool_size=UNBOUNDED),
        on_autotune("64 threads", 32, thread_pool_size=64),
        on_autotune(
            "64 threads, blocks of 64 elements", 32, thread_pool_size=64, generator_chunk=64
        ),
    ),
    case(
        "python-map",
        f"{AUDIT}:BusyMap",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        change("8 map calls", 32, calls=8),
        change("8 map calls, a thread per call", 32, calls=8, thread_pool_size=UNBOUNDED),
        on_autotune("blocks of 64 elements", 32, generator_chunk=64),
    ),
    case(
        "loop-map",
        f"{HERE}:LoopMap",
        32,
        change("8 map calls", 32, calls=8),
        on_autotune("the map in TensorFlow ops", 32, target=f"{HERE}:TensorFlowMap"),
        on_autotune(
            "the map in TensorFlow ops, blocks of 32 elements",
            32,
            target=f"{HERE}:TensorFlowMap",
            generator_chunk=32,
        ),
    ),
    case(
        "busy-map",
        f"{HERE}:Spectrograms",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        change("8 map calls", 32, calls=8),
        on_autotune("one thread per op", 32, max_intra_op_parallelism=1),
        on_autotune("blocks of 32 elements", 32, generator_chunk=32),
        on_autotune("map on batches", 32, vectorized_map=True),
        on_autotune(
            "map on batches, blocks of 32 elements", 32, generator_chunk=32, vectorized_map=True
        ),
    ),
    case(
        "autograph",
        f"{HERE}:ConvertedMap",
        32,
        change("8 map calls", 32, calls=8),
        on_autotune("`do_not_convert`", 32, target=f"{HERE}:UnconvertedMap"),
    ),
    case(
        "busy-generator",
        f"{HERE}:BusyGenerator",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        on_autotune("blocks of 64 elements", 32, generator_chunk=64),
        on_autotune("2 processes", 32, generator_workers=2),
        on_autotune("2 processes, blocks of 64", 32, generator_workers=2, generator_chunk=64),
    ),
    case(
        "waiting-generator",
        f"{AUDIT}:BlockingGenerator",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        on_autotune("blocks of 64 elements", 32, generator_chunk=64),
        on_autotune("8 processes", 32, generator_workers=8),
        on_autotune("32 processes", 32, generator_workers=32),
        on_autotune("32 processes, blocks of 64", 32, generator_workers=32, generator_chunk=64),
    ),
    case(
        "py-dataset",
        f"{HERE}:WaitingItems,model={HERE}:build_model",
        32,
        change("`prefetch(16)`", 32, prefetch=16),
        on_autotune("8 workers", 32, workers=8, max_queue_size=16),
        on_autotune("32 workers", 32, workers=32, max_queue_size=64),
    ),
    case(
        "memory",
        f"{HERE}:images,step=50ms",
        32,
        change("`prefetch(2)`", 32, prefetch=2),
        change("`prefetch(64)`", 32, prefetch=64),
        change("`prefetch(256)`", 32, prefetch=256),
        on_autotune("blocks of 32 elements", 32, generator_chunk=32),
    ),
    case(
        "slow-step",
        f"{HERE}:images,step=50ms",
        32,
        change("`prefetch(64)`", 32, prefetch=64),
        change("no prefetch", 32, prefetch=0, calls=1),
        on_autotune("blocks of 64 elements", 32, generator_chunk=64),
    ),
    case(
        "shared-cores",
        f"{AUDIT}:SharedCores",
        64,
        change("`prefetch(64)`", 64, prefetch=64),
        change("no prefetch", 64, prefetch=0, calls=1),
        on_autotune("blocks of 64 elements", 64, generator_chunk=64),
    ),
)
