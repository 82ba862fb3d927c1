"""Writes the recommended settings of a training script as the lines to change in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.pipelines.config import AUTO, UNBOUNDED, PipelineConfig
from prefetch_tuning.pipelines.target import Target

AUTOTUNE = "tf.data.AUTOTUNE"


def changed_lines(config: PipelineConfig, info: PipelineInfo) -> list[str]:
    """The calls of the script that change, each as a line with its place; empty if none does."""
    if config.as_written or (info.own and config.is_autotune):
        return []
    if info.own:
        return list(_arguments(config))
    lines = list(_calls(config, info) if info.calls else _around(info))
    if config.prefetch_buffer != 0:
        size = AUTOTUNE if config.prefetch_buffer == AUTO else config.prefetch_buffer
        place = "at the end of the chain, in place of its own" if info.calls else "then"
        lines.append(f".prefetch({size})  # {place}")
    if config.is_autotune and not config.needs_options:
        return lines
    lines.append(".with_options(options)  # the last call, with:")
    return [*lines, *(f"    {line}" for line in _options(config))]


def _calls(config: PipelineConfig, info: PipelineInfo) -> Iterator[str]:
    for name, given in info.calls:
        place = " ".join(given.split())  # it has the name of a file
        if name == "from_generator" and config.cache:
            yield f".cache()  # right after it: {place}"
        elif name == "map" and config.map_parallelism == 1:
            yield f".map(...)  # {place}, without num_parallel_calls"
        elif name == "map":
            calls = AUTOTUNE if config.map_parallelism == AUTO else config.map_parallelism
            more = ", use_unbounded_threadpool=True" if config.thread_pool_size == UNBOUNDED else ""
            yield f".map(..., num_parallel_calls={calls}{more})  # {place}"
        elif name in ("batch", "padded_batch") and Target.parse(info.target).sizes:
            yield f".{name}({config.batch_size}, ...)  # {place}"


def run_command(target: Target) -> str:
    """The command that trains with the recommended chain, as a user types it."""
    fit = [] if target.fit == 1 else ["--fit", str(target.fit)]
    args = ["--", *target.args] if target.args else []
    return shlex.join(["prefetch-tune", "run", target.main, *fit, *args])


def _arguments(config: PipelineConfig) -> Iterator[str]:
    """The arguments of a PyDataset."""
    yield (
        f"workers={config.workers}, use_multiprocessing={config.use_multiprocessing}, "
        f"max_queue_size={config.max_queue_size}  # arguments of the PyDataset"
    )
    if config.prefetch_buffer:
        yield f"# prefetch({config.prefetch_buffer}) behind them is only in the command above"


def _around(info: PipelineInfo) -> Iterator[str]:
    """The dataset for a Python generator of batches."""
    yield "tf.data.Dataset.from_generator(  # around the generator that fit gets"
    yield f"    lambda: generator, output_signature={info.element_spec}"
    yield ")"


def _options(config: PipelineConfig) -> Iterator[str]:
    yield "options = tf.data.Options()"
    if not config.is_autotune:
        yield "options.autotune.enabled = False"
        yield "options.experimental_optimization.inject_prefetch = False"
        yield "options.experimental_optimization.map_parallelization = False"
    if config.reorder:
        yield "options.deterministic = False  # calls that are done overtake slower ones"
    if isinstance(config.thread_pool_size, int) and config.thread_pool_size:
        yield f"options.threading.private_threadpool_size = {config.thread_pool_size}"
    if config.max_intra_op_parallelism:
        yield f"options.threading.max_intra_op_parallelism = {config.max_intra_op_parallelism}"
