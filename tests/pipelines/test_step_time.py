"""The text of a step's time, and the accelerators that have one."""

from __future__ import annotations

import pytest

from prefetch_tuning.pipelines.accelerators import ACCELERATORS, accelerator
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime


@pytest.mark.parametrize(
    ("text", "fixed_ms", "per_example_ms"),
    [
        ("12ms", 12.0, 0.0),
        ("0.56ms/example", 0.0, 0.56),
        ("4ms+0.1ms/example", 4.0, 0.1),
        ("1.0875ms/example@resnet50-a100", 0.0, 1.0875),
    ],
)
def test_a_text_is_parsed_and_said_again(text: str, fixed_ms: float, per_example_ms: float) -> None:
    found = StepTime.parse(text)

    assert (found.fixed_ms, found.per_example_ms) == (fixed_ms, per_example_ms)
    assert str(found) == text
    assert StepTime.parse(str(found)) == found
    assert found.seconds(10) == pytest.approx((fixed_ms + 10 * per_example_ms) / 1e3)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12",
        "fast",
        "0ms",
        "-1ms",
        "1e3ms",
        "4ms0.1ms/example",
        "+4ms",
        "4ms+",
        "ms",
        "4ms+0.1ms/example@",
        "9999999ms",
        "4ms,jit=true",
    ],
)
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(PipelineError, match="isn't a step time; give one like 12ms") as caught:
        StepTime.parse(text)
    assert "\n" not in str(caught.value)


def test_the_words_say_that_it_is_emulated() -> None:
    assert StepTime.parse("4ms+0.1ms/example").in_words == (
        "an emulated step: 4 ms + 0.1 ms per example"
    )
    found = accelerator("resnet50-h100").step_time
    assert found.in_words == "an emulated step on resnet50-h100: 0.56 ms per example"


def test_known_accelerators_take_the_time_of_their_source() -> None:
    for name, known in ACCELERATORS.items():
        assert known.name == name
        assert known.step_time.seconds(known.batch_size) == pytest.approx(known.step_s)
        assert StepTime.parse(str(known.step_time)) == known.step_time
        assert known.source.startswith("github.com/mlcommons/storage, configs/")
    assert accelerator("unet3d-h100").step_s < accelerator("unet3d-a100").step_s


def test_an_unknown_accelerator_has_a_suggestion() -> None:
    with pytest.raises(PipelineError, match="no accelerator named 'resnet-h100'; did you mean"):
        accelerator("resnet-h100")
    with pytest.raises(PipelineError, match="prefetch-tune accelerators lists them"):
        accelerator("zzz")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        ({32: 0.010, 64: 0.016, 128: 0.028}, "4ms+0.1875ms/example"),
        ({32: 0.0032, 64: 0.0064}, "0.1ms/example"),
        ({32: 0.005, 64: 0.005}, "5ms"),
        ({32: 0.006, 64: 0.005}, "5.409836ms"),  # a step never gets faster with its batch
        ({64: 0.0125}, "12.5ms"),
    ],
)
def test_measured_steps_are_fitted(seconds: dict[int, float], text: str) -> None:
    assert str(StepTime.fitted(seconds)) == text


def test_seconds_and_a_space_are_understood() -> None:
    assert str(StepTime.parse("0.2s")) == str(StepTime.parse("200 ms")) == "200ms"
