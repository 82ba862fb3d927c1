"""The line that names a pipeline: how it is composed, parsed and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import Target, compose

EVERYTHING = "my.rows:rows,map=m:f,model=m:g,step=5ms,precision=bfloat16,jit=true"


def test_everything_that_belongs_to_a_pipeline_is_in_one_line() -> None:
    line = compose(
        "my.rows:rows", "m:f", "m:g", StepTime(fixed_ms=5.0), precision="bfloat16", jit=True
    )

    assert line == EVERYTHING
    assert catalog.resolve(line) == line


def test_nothing_said_leaves_a_target_as_it_is() -> None:
    for target in ("m:Mine", EVERYTHING, catalog.resolve("keras_sequence")):
        assert compose(target) == target


def test_options_come_on_top_of_options_in_the_order_that_is_understood() -> None:
    of_the_model = compose("m:f", precision="float16", jit=True)

    assert compose(of_the_model, None, "m:g") == "m:f,model=m:g,precision=float16,jit=true"
    assert compose(of_the_model, precision="bfloat16") == "m:f,precision=bfloat16,jit=true"
    built_in = compose(catalog.resolve("keras_sequence"), jit=True)
    assert built_in == catalog.resolve("keras_sequence") + ",jit=true"
    assert catalog.resolve(built_in) == built_in


@pytest.mark.parametrize(
    ("target", "part", "value"),
    [
        (EVERYTHING, "main", "my.rows:rows"),
        (EVERYTHING, "precision", "bfloat16"),
        (EVERYTHING, "jit", True),
        (EVERYTHING, "step", StepTime(fixed_ms=5.0)),
        ("m:f,step=0.00001ms", "step", StepTime(fixed_ms=1e-5)),
        ("m:f,step=4ms+0.1ms/example", "step", StepTime(fixed_ms=4.0, per_example_ms=0.1)),
        ("m:Mine,precision=float16", "precision", "float16"),
        ("m:Mine,precision=float16", "jit", False),
        ("m:Mine", "precision", None),
    ],
)
def test_it_is_taken_apart_again(target: str, part: str, value: object) -> None:
    found = Target.parse(target)

    assert getattr(found, part) == value
    assert str(found) == target


@pytest.mark.parametrize(
    "wrong",
    [
        "m:Mine,jit=false",
        "m:Mine,jit=true,precision=float16",
        "m:f,step=5ms,step=6ms",
        "m:f,shell=m:g",
        "m:f,model",
        "m:f,",
        ":f",
        "m:os.system('true')",
    ],
)
def test_what_is_no_target(wrong: str) -> None:
    with pytest.raises(PipelineError, match="not of the form"):
        catalog.resolve(wrong)


def test_a_wrong_value_is_one_line() -> None:
    with pytest.raises(PipelineError, match=r"^mixed precision must be .*, not 'float8'$"):
        compose("m:f", precision="float8")
    with pytest.raises(PipelineError, match=r"^'fastms' isn't a step time; give one like"):
        catalog.resolve("m:f,step=fastms")
    with pytest.raises(PipelineError, match=r"--model 'g' is not of the form module:attribute"):
        compose("m:f", None, "g")


def test_a_logged_spec_keeps_it() -> None:
    config = PipelineConfig.no_prefetch(4)

    spec = TrialSpec(pipeline="m:Mine,precision=bfloat16,jit=true", config=config)

    assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec


def test_the_code_behind_it_is_the_same() -> None:
    target = Target.parse("m:f,model=m:g,precision=float16,jit=true")

    assert str(target.without_model_options) == "m:f,model=m:g"


def test_a_file_stands_for_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("rows.py", "inner/more.py"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    assert catalog.resolve("rows.py:rows") == "rows:rows"
    assert catalog.resolve("./inner/more.py:Shards.of") == "inner.more:Shards.of"
    assert catalog.resolve(f"{tmp_path}/rows.py:rows") == "rows:rows"
    assert compose("rows:rows", "rows.py:augment") == "rows:rows,map=rows:augment"


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("row.py:rows", r"there is no file 'row\.py' in .*here$"),
        ("../out.py:rows", r"'\.\./out\.py' is outside .*; run this command in the file's folder"),
        ("my-rows.py:rows", r"'my-rows\.py' cannot be imported: its path has a part"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: str, message: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "out.py").touch()
    (here / "my-rows.py").touch()
    monkeypatch.chdir(here)

    with pytest.raises(PipelineError, match=message):
        catalog.resolve(selector)
