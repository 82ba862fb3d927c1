"""Pipelines that version 0.1 recorded, under their current names."""

from __future__ import annotations

import pytest

from prefetch_tuning.pipelines import catalog

OWN = "pipelines.mine:rows,step=5ms"


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
    assert catalog.renamed(then, "0.1.0") == catalog.resolve(name)


def test_what_belongs_to_it_stays() -> None:
    found = catalog.renamed("pipelines.image:ImagePipeline,jit=true", "0.1.0")

    assert found == catalog.resolve("image") + ",jit=true"


@pytest.mark.parametrize("pipeline", [OWN, "my.pipelines.simple:SimplePipeline", "m:f"])
def test_a_users_own_is_left_alone(pipeline: str) -> None:
    assert catalog.renamed(pipeline, "0.1.0") == pipeline


@pytest.mark.parametrize("version", ["0.2.0.dev0", "1.0.1", None])
def test_later_versions_mean_a_users_own_folder_by_that_name(version: str | None) -> None:
    own = "pipelines.simple:SimplePipeline"

    assert catalog.renamed(own, version) == own
