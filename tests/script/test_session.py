"""Running a script up to its `fit`, and what is said of scripts that don't get there."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.machine.device import select_device_for
from prefetch_tuning.pipelines.script import session
from prefetch_tuning.pipelines.script.pipeline import described
from prefetch_tuning.pipelines.script.recorder import record_of, recording
from prefetch_tuning.pipelines.source import PipelineError
from tests.support.scripts import FILE, at_fit

FIT = """
dataset = tf.data.Dataset.from_generator(rows, output_signature=SPEC).batch(8)
make_model().fit(dataset, shuffle=False, verbose=0)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "train.py ended before its first fit on data from Python; a loop without fit"),
        ("raise ValueError('no such file')", "failed with ValueError: no such file, before"),
        ("raise SystemExit('usage: train.py DATA')", "exited with 'usage: train.py DATA' before"),
        ("make_model().fit(np.zeros((8, 3)), np.zeros(8), verbose=0)", "ended before its first"),
    ],
)
def test_a_script_without_such_a_fit_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=said):
        at_fit(tmp_path, text, lambda _: None)


def test_a_script_that_reads_standard_input_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(PipelineError, match="reads standard input"):
        at_fit(tmp_path, "input('learning rate: ')" + FIT, lambda _: None)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_the_second_fit_is_found_after_the_first_has_run(tmp_path: Path) -> None:
    text = FIT + "model = make_model()\nmodel.fit(dataset.map(lambda x, y: (x, y)), verbose=0)\n"

    assert "map" in at_fit(tmp_path, text, described, fit=2)
    with pytest.raises(PipelineError, match="before fit number 3"):
        at_fit(tmp_path, text, described, fit=3)


def test_methods_and_fit_are_as_before_afterwards(tmp_path: Path) -> None:
    methods, fit = dict(vars(tf.data.Dataset)), keras.Model.fit
    at_fit(tmp_path, FIT, lambda _: None)

    assert dict(vars(tf.data.Dataset)) == methods
    assert keras.Model.fit is fit
    assert "fit" not in vars(keras.Model)


def test_the_script_is_the_main_module_with_its_own_arguments(tmp_path: Path) -> None:
    text = "import sys\nassert __name__ == '__main__' and sys.argv[1:] == ['--epochs', '3']\n"
    (tmp_path / "beside.py").write_text("VALUE = 1\n")

    assert at_fit(tmp_path, text + "import beside\n" + FIT, lambda _: True, "--epochs", "3")


def test_the_chain_in_words(tmp_path: Path) -> None:
    text = FIT.replace(".batch(8)", ".shuffle(20, seed=1).map(lambda x, y: (x, y)).batch(8)")
    found = at_fit(tmp_path, text, described)

    assert found == (
        "from_generator(rows) > shuffle(buffer_size=20) > map(map_func=<lambda>) > "
        "batch(batch_size=8)"
    )


def test_only_calls_from_outside_are_recorded() -> None:
    """Branches of a chain are told apart, and what a function makes inside doesn't count."""

    def cut(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.skip(1).take(2)

    spec = tf.TensorSpec((), tf.int64)
    with recording():
        base = tf.data.Dataset.from_generator(lambda: range(9), output_signature=spec)
        first, second = base.apply(cut), base.map(lambda x: x + 1)
        other = tf.data.Dataset.range(3).map(lambda x: x)
    names = [[call.name for call in record_of(each).calls] for each in (base, first, second)]  # type: ignore[union-attr]

    assert names == [[], ["apply"], ["map"]]
    assert record_of(other) is None
    assert [int(x) for x in first] == [1, 2]


def test_map_functions_are_still_converted_by_autograph() -> None:
    def limited(value: tf.Tensor) -> tf.Tensor:
        if value > 2:
            value = tf.constant(2, tf.int64)
        return value

    spec = tf.TensorSpec((), tf.int64)
    with recording():
        dataset = tf.data.Dataset.from_generator(lambda: range(5), output_signature=spec)
        found = dataset.map(limited)

    assert [int(x) for x in found] == [0, 1, 2, 2, 2]


def test_inside_of_fit_the_device_is_the_scripts_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow lets nobody choose again, so a trial describes what the script has chosen."""

    def refused(*_: object) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refused)
    with pytest.raises(RuntimeError):
        select_device_for(FILE, "cpu")
    monkeypatch.setattr(session, "_reached", [object()])

    assert select_device_for(FILE, "cpu") == "cpu"
