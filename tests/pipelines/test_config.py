"""Configurations as logged parameters, and the errors about values out of range."""

from __future__ import annotations

import pytest

from prefetch_tuning.pipelines.config import ConfigError, PipelineConfig


@pytest.mark.parametrize(
    "config",
    [
        PipelineConfig(batch_size=64, prefetch_buffer=4, map_parallelism=2),
        PipelineConfig.no_prefetch(32),
        PipelineConfig.autotune(128),
    ],
)
def test_survives_being_logged_as_strings(config: PipelineConfig) -> None:
    logged = {key: str(value) for key, value in config.to_params().items()}

    assert PipelineConfig.from_params(logged) == config


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 0}, "batch_size: Input should be greater than or equal to 1 (got 0)"),
        ({"batch_size": "os.system('x')"}, "got \"os.system('x')\""),
        ({"prefetch_buffer": -1}, "prefetch_buffer must be from 0 to 4096, not -1"),
        ({"map_parallelism": 0}, "map_parallelism must be from 1 to 1024, not 0"),
        ({"map_parallelism": "auto"}, 'must both be "auto", or neither'),
        ({"prefetch": 3}, "prefetch: Extra inputs are not permitted (got 3)"),
    ],
)
def test_refuses_what_is_out_of_range_in_one_line(changed: dict[str, object], message: str) -> None:
    params = {"batch_size": 64, "prefetch_buffer": 4, "map_parallelism": 2, **changed}

    with pytest.raises(ConfigError) as caught:
        PipelineConfig.from_params(params)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_a_missing_parameter() -> None:
    with pytest.raises(ConfigError, match="map_parallelism: Field required"):
        PipelineConfig.from_params({"batch_size": 64, "prefetch_buffer": 4})
