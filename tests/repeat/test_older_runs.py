"""What version 0.1 logged, by the names of today."""

from __future__ import annotations

import pytest

from prefetch_tuning.experiments.repeat.older_runs import params_of, renamed
from prefetch_tuning.experiments.storage.runs import LoggedRun
from prefetch_tuning.pipelines import catalog

OWN = "pipelines.mine:rows,step=5ms"


def logged(version: str | None, pipeline: str) -> LoggedRun:
    return LoggedRun(
        run_id="r",
        name="n",
        status="FINISHED",
        started_s=0.0,
        params={"pipeline": pipeline, "seed": "3"},
        metrics={},
        tags={} if version is None else {"version.prefetch-tuning": version},
    )


@pytest.mark.parametrize(
    ("then", "name"),
    [
        ("pipelines.simple:SimplePipeline", "simple"),
        ("pipelines.resnet:JpegResnetPipeline", "jpeg-resnet"),
        (
            "pipelines.keras_sequence:Batches,model=pipelines.keras_sequence:build_model",
            "keras_sequence",
        ),
    ],
)
def test_a_built_in_pipeline_is_the_one_of_today(then: str, name: str) -> None:
    assert renamed(then) == catalog.resolve(name)
    assert params_of(logged("0.1.0", then)) == {"pipeline": catalog.resolve(name), "seed": "3"}


def test_what_belongs_to_it_stays() -> None:
    assert renamed("pipelines.image:ImagePipeline,jit=true") == (
        catalog.resolve("image") + ",jit=true"
    )


@pytest.mark.parametrize("pipeline", [OWN, "my.pipelines.simple:SimplePipeline", "m:f"])
def test_a_users_own_is_left_alone(pipeline: str) -> None:
    assert params_of(logged("0.1.0", pipeline))["pipeline"] == pipeline


@pytest.mark.parametrize("version", ["0.2.0.dev0", "1.0.1", None])
def test_later_runs_mean_a_users_own_folder_by_that_name(version: str | None) -> None:
    run = logged(version, "pipelines.simple:SimplePipeline")

    assert params_of(run)["pipeline"] == "pipelines.simple:SimplePipeline"
