"""Pipelines by name or target, and what must not be imported along with them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError


def test_a_name_resolves_to_its_class() -> None:
    assert catalog.resolve("image") == "prefetch_tuning.pipelines.builtin.image:ImagePipeline"


def test_module_and_attribute_are_taken_as_they_are() -> None:
    assert catalog.resolve("my_module:Mine") == "my_module:Mine"


def test_an_unknown_name_gets_the_nearest_suggested() -> None:
    with pytest.raises(PipelineError, match="no pipeline named 'imgae'; did you mean 'image'"):
        catalog.resolve("imgae")


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(PipelineError, match=r"file\.py:name.*simple, noisy, image"):
        catalog.resolve("video")


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(
        ValueError, match=r"'image' is taken by prefetch_tuning\.pipelines\.builtin\.image"
    ):
        catalog.register("image", "elsewhere:Other")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("no_such_module:X", "cannot import 'no_such_module' .*ModuleNotFoundError"),
        ("tests.planted.pipelines:Nothing", "has no attribute 'Nothing'"),
        (
            "tests.planted.pipelines:not_a_pipeline",
            "is not a pipeline: it has no name, element_spec",
        ),
    ],
)
def test_what_cannot_be_loaded_says_why(target: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        catalog.load(target)


def test_an_instance_is_taken_as_it_is_and_a_class_is_called() -> None:
    assert catalog.load("tests.planted.pipelines:Mapped").name == "mapped"
    assert not isinstance(catalog.load("tests.planted.pipelines:Mapped"), type)


def test_heavy_pipelines_are_there_by_name_only() -> None:
    assert catalog.heavy_names() == ["image-resnet", "jpeg-resnet"]
    assert not set(catalog.heavy_names()) & set(catalog.names())
    assert (
        catalog.resolve("jpeg-resnet")
        == "prefetch_tuning.pipelines.builtin.heavy.resnet:JpegResnetPipeline"
    )
    with pytest.raises(PipelineError, match="did you mean 'jpeg-resnet'"):
        catalog.resolve("jpeg-resnt")


def test_a_target_that_is_built_in_has_a_name() -> None:
    assert catalog.built_in_name(catalog.resolve("image")) == "image"
    assert (
        catalog.built_in_name("prefetch_tuning.pipelines.builtin.heavy.resnet:ImageResnetPipeline")
        == "image-resnet"
    )
    assert (
        catalog.built_in_name("prefetch_tuning.pipelines.builtin.image:ImagePipeline,jit=true")
        is None
    )


def test_a_wrong_precision_is_what_the_error_is_about() -> None:
    with pytest.raises(PipelineError, match="must be float16 or bfloat16, not 'float8'") as found:
        catalog.resolve("my_module:Mine,precision=float8")
    assert "\n" not in str(found.value)


def test_the_process_that_runs_a_study_does_not_import_tensorflow() -> None:
    code = (
        "import sys, prefetch_tuning.experiments.cli, prefetch_tuning.experiments.study.tuning; "
        "sys.exit('tensorflow' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_trial_does_not_import_optuna_or_mlflow() -> None:
    code = (
        "import sys, prefetch_tuning.objectives.process.worker; "
        "sys.exit(not {'optuna', 'mlflow'}.isdisjoint(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
