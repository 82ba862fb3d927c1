"""The code to paste runs without this project and makes the same batches."""

from __future__ import annotations

import ast
import importlib.util
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.objectives.checks.elements import check_transform, first_elements, spec_source
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset, is_padded
from prefetch_tuning.pipelines.chain.chunking import is_flat
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform
from tests.support import report_records

SEED = 5
TARGETS = (
    "prefetch_tuning.pipelines.builtin.simple:SimplePipeline",
    "prefetch_tuning.pipelines.builtin.noisy:NoisyPipeline",
    "prefetch_tuning.pipelines.builtin.image:ImagePipeline",
    "tests.planted.pipelines:Ragged",
    "tests.planted.pipelines:Finite",
    "tests.planted.pipelines:MappedRagged",
)
CONFIGS = (
    PipelineConfig(batch_size=4, prefetch_buffer=2, map_parallelism=3),
    PipelineConfig.autotune(4),
    PipelineConfig.no_prefetch(4),
)
PLAIN = [(target, config) for target in TARGETS for config in CONFIGS]
AUTO = {"prefetch_buffer": "auto", "map_parallelism": "auto"}
STRUCTURED: list[tuple[str, dict[str, Any]]] = [
    (TARGETS[0], {"generator_chunk": 3, "vectorized_map": True}),
    (TARGETS[1], {"vectorized_map": True, "map_parallelism": 2}),
    (TARGETS[2], {"generator_chunk": 16, "thread_pool_size": "unbounded", "map_parallelism": 2}),
    (TARGETS[0], {"generator_chunk": 3, "vectorized_map": True, **AUTO}),
    (TARGETS[2], {"generator_chunk": 16, "thread_pool_size": "unbounded", **AUTO}),
    (TARGETS[4], {"generator_chunk": 5, "thread_pool_size": 2, **AUTO}),
    (TARGETS[4], {"generator_chunk": 5, "thread_pool_size": 2, "max_intra_op_parallelism": 1}),
]


def record_of(pipeline: GeneratorPipeline, config: PipelineConfig) -> StudyRecord:
    record = report_records.full()
    mapped = check_transform(pipeline, first_elements(pipeline, SEED, 1)[0])
    info = record.info.model_copy(
        update={
            "name": pipeline.name,
            "has_transform": has_transform(pipeline),
            "element_spec": spec_source(pipeline.element_spec),
            "padded": is_padded(mapped),
            "flat": is_flat(pipeline.element_spec),
            "target": f"{type(pipeline).__module__}:{type(pipeline).__name__}",
        }
    )
    assert record.result.recommended is not None
    recommended = record.result.recommended.model_copy(update={"config": config})
    result = record.result.model_copy(update={"recommended": recommended})
    return record.model_copy(update={"info": info, "result": result})


def imported(code: str, folder: Path) -> Any:
    path = folder / "pasted.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("pasted", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator(target: str) -> GeneratorPipeline:
    found = catalog.load(target)
    assert isinstance(found, GeneratorPipeline)
    return found


def batches(dataset: tf.data.Dataset) -> list[Any]:
    """The first three batches, read to the iterator's end: an open iterator can hang at exit."""
    return [tf.nest.map_structure(lambda t: t.numpy(), batch) for batch in dataset.take(3)]


@pytest.mark.parametrize(
    ("target", "config"),
    PLAIN + [(t, CONFIGS[2].model_copy(update=changes)) for t, changes in STRUCTURED],
    ids=str,
)
def test_it_makes_the_batches_and_has_the_options_that_were_measured(
    target: str, config: PipelineConfig, tmp_path: Path
) -> None:
    pipeline = generator(target)
    pasted = imported(snippet(record_of(pipeline, config)), tmp_path)
    given = (pipeline.transform,) if has_transform(pipeline) else ()

    made = pasted.make_dataset(lambda: pipeline.generate(SEED), *given)
    measured = build_dataset(catalog.load(target), config, seed=SEED)

    assert made.element_spec == measured.element_spec
    assert made.options() == measured.options()
    assert ops(made) == ops(measured)
    for ours, theirs in zip(batches(made), batches(measured), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


def ops(dataset: tf.data.Dataset) -> list[str]:
    serialised = tf.raw_ops.DatasetToGraphV2(input_dataset=dataset._variant_tensor).numpy()
    graph = tf.compat.v1.GraphDef.FromString(serialised)
    return sorted(node.op for node in graph.node if "Dataset" in node.op)


@pytest.mark.parametrize(
    "changes", [{"generator_workers": 2}, {"generator_chunk": 3, "prefetch_buffer": 2}], ids=str
)
def test_what_needs_this_project_calls_it(
    changes: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = generator("tests.planted.pipelines:Ragged")
    config = CONFIGS[2].model_copy(update=changes)
    code = snippet(record_of(pipeline, config))
    pasted = tmp_path / "pasted.py"
    pasted.write_text(code, encoding="utf-8")
    # No process is started here: tests/chain/test_processes.py covers starting them from a main
    # module.
    made: list[PipelineConfig] = []
    monkeypatch.setattr(
        "prefetch_tuning.pipelines.chain.build.build_dataset", lambda _, config: made.append(config)
    )

    runpy.run_path(str(pasted), run_name="__main__")

    assert made == [config]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_it_needs_nothing_but_tensorflow(config: PipelineConfig) -> None:
    tree = ast.parse(snippet(record_of(generator("tests.planted.pipelines:Finite"), config)))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]

    assert [ast.unparse(node) for node in imports] == ["import tensorflow as tf"]


def test_without_a_confirmation_it_is_the_best_trials_and_says_so() -> None:
    record = report_records.unconfirmed()
    assert record.result.best is not None

    code = snippet(record)

    assert f"prefetch({record.result.best.config.prefetch_buffer})" in code
    assert "not confirmed" in code


def test_without_a_configuration_there_is_no_code() -> None:
    assert snippet(report_records.nothing()) == ""


def test_a_persons_words_cannot_leave_the_comment() -> None:
    code = snippet(report_records.hostile("x\nraise SystemExit\r\u2028raise SystemExit"))

    assert all("raise SystemExit" not in ast.unparse(node) for node in ast.parse(code).body)
    assert code.splitlines()[0].startswith("# tf.data settings for the pipeline x raise")
