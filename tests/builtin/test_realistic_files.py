"""Pipelines that read real files: the cache that holds them, their elements and their shards."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from prefetch_tuning.objectives.digest import digest
from prefetch_tuning.pipelines.builtin import jpeg, text
from prefetch_tuning.pipelines.builtin.jpeg import JpegPipeline
from prefetch_tuning.pipelines.builtin.support import cache
from prefetch_tuning.pipelines.builtin.support.cache import made_once, shuffled_epochs
from prefetch_tuning.pipelines.builtin.text import TextPipeline
from prefetch_tuning.pipelines.source import PipelineError

Realistic = JpegPipeline | TextPipeline


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all tests of the pipelines share, so the files are made once."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.VARIABLE, str(folder))
        JpegPipeline().prepare()
        TextPipeline().prepare()
    return folder


@pytest.fixture
def cached(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(filled))
    return filled


@pytest.fixture(params=[JpegPipeline, TextPipeline], ids=["jpeg", "text"])
def pipeline(request: pytest.FixtureRequest, cached: Path) -> Realistic:
    made: Realistic = request.param()
    return made


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that doesn't exist yet."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_one(folder: Path) -> None:
    (folder / "file").write_text("whole")


def visible(folder: Path) -> list[str]:
    """The names in a cache folder, without the lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def elements(pipeline: Realistic, count: int, seed: int = 0) -> list[Any]:
    return list(islice(pipeline.generate(seed), count))


# The cache


def test_a_folder_is_made_once(empty: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        write_one(folder)

    for _ in range(2):
        folder = made_once("some-v1", make)

    assert folder == empty / "some-v1"
    assert (folder / "file").read_text() == "whole"
    assert len(calls) == 1
    assert visible(empty) == ["some-v1"]


def test_an_interrupted_making_leaves_nothing_and_is_repeated(empty: Path) -> None:
    def interrupted(folder: Path) -> None:
        write_one(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once("some-v1", interrupted)

    assert visible(empty) == []
    assert visible(made_once("some-v1", write_one)) == ["file"]


def start(making: str) -> subprocess.Popen[str]:
    code = (
        "import os, signal, time\nfrom pathlib import Path\n"
        "from prefetch_tuning.pipelines.builtin.support.cache import made_once\n"
        f"def make(folder):\n    (folder / 'half').touch()\n    {making}\n"
        "print(os.listdir(made_once('some-v1', make)))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_is_cleared_away(empty: Path) -> None:
    with start("os.kill(os.getpid(), signal.SIGKILL)") as killed:
        killed.communicate(timeout=30)

    assert visible(made_once("some-v1", write_one)) == ["file"]
    assert visible(empty) == ["some-v1"]


def test_of_two_processes_at_once_one_makes_the_files(empty: Path) -> None:
    making = "time.sleep(0.3); (folder / f'by {os.getpid()}').touch()"
    with start(making) as one, start(making) as other:
        seen = [process.communicate(timeout=30)[0] for process in (one, other)]

    assert one.returncode == other.returncode == 0
    assert seen[0] == seen[1]
    assert seen[0].count("by ") == 1
    assert visible(empty) == ["some-v1"]


def test_a_cache_that_cannot_be_written_is_said_in_one_line(empty: Path) -> None:
    empty.write_text("a file where the folder should be")

    for pipeline in (JpegPipeline(), TextPipeline()):
        with pytest.raises(PipelineError, match=r"cannot make .*; set PREFETCH_TUNING_CACHE") as e:
            next(pipeline.generate(0))
        assert "\n" not in str(e.value)


def test_the_cache_is_the_users_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() == Path("/home/someone/.cache/prefetch-tuning")

    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache.cache_folder() == Path("/caches/prefetch-tuning")

    monkeypatch.setenv(cache.VARIABLE, "/named")
    assert cache.cache_folder() == Path("/named")


# Both pipelines


def test_files_are_made_once(
    pipeline: Realistic, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(folder: Path) -> None:
        pytest.fail("made a second time")

    monkeypatch.setattr(jpeg, "write_files", again)
    monkeypatch.setattr(text, "write_corpus", again)

    pipeline.prepare()
    pipeline.prepare()

    assert visible(cached) == [jpeg.FOLDER, text.FOLDER]


def test_elements_match_their_spec(pipeline: Realistic) -> None:
    for element in elements(pipeline, 20):
        tf.nest.assert_same_structure(element, pipeline.element_spec)
        for spec, leaf in zip(pipeline.element_spec, element, strict=True):
            assert spec.is_compatible_with(tf.convert_to_tensor(leaf, spec.dtype))
        assert element[0].dtype == pipeline.element_spec[0].dtype.as_numpy_dtype


def test_the_seed_decides_which_elements_come(pipeline: Realistic) -> None:
    first, again, other = (digest(elements(pipeline, 20, seed)) for seed in (3, 3, 4))

    assert first == again == digest(elements(type(pipeline)(), 20, 3))
    assert first != other


def test_there_is_more_than_one_label(pipeline: Realistic) -> None:
    classes = {JpegPipeline: jpeg.CLASSES, TextPipeline: text.CLASSES}[type(pipeline)]

    assert {label for _, label in elements(pipeline, 300)} == set(range(classes))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_in_turn_give_the_unsharded_stream(pipeline: Realistic, shards: int) -> None:
    streams = [pipeline.generate(5, shard_index, shards) for shard_index in range(shards)]

    merged = [next(streams[i % shards]) for i in range(20)]

    assert digest(merged) == digest(elements(pipeline, 20, seed=5))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_shards_stay_in_turn_over_epochs_and_each_has_its_own_order(shards: int) -> None:
    whole = list(islice(shuffled_epochs(7, 0, 0, 1), 28))
    streams = [shuffled_epochs(7, 0, shard_index, shards) for shard_index in range(shards)]

    assert [next(streams[i % shards]) for i in range(28)] == whole
    epochs = [whole[i : i + 7] for i in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


@pytest.mark.parametrize(("index", "shards"), [(2, 2), (-1, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(index: int, shards: int) -> None:
    with pytest.raises(ValueError, match=f"no shard {index} of {shards}"):
        shuffled_epochs(7, 0, index, shards)


def test_a_shard_does_only_its_own_work(
    pipeline: Realistic, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: list[object] = []

    def work(source: object, *_: object) -> list[str]:
        worked.append(source)
        return []

    monkeypatch.setattr(jpeg, "read_image", work)
    monkeypatch.setattr(text, "tokens", work)

    assert len(list(islice(pipeline.generate(0, 1, 3), 5))) == len(worked) == 5


# What is in the files


def test_the_jpegs_are_real_ones(cached: Path) -> None:
    files = sorted((cached / jpeg.FOLDER).glob("*/*"))

    assert len(files) == jpeg.FILES
    for path in files[::200]:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            assert picture.size == (jpeg.FILE_SIDE, jpeg.FILE_SIDE)
    assert len({path.read_bytes() for path in files[::20]}) > 100


def test_jpegs_that_have_gone_are_noticed(empty: Path) -> None:
    made_once(jpeg.FOLDER, write_one)

    with pytest.raises(PipelineError, match=r"contains 0 JPEG files instead of 3000; delete it"):
        JpegPipeline().prepare()


def test_a_corpus_that_cannot_be_read_is_noticed(empty: Path) -> None:
    made_once(text.FOLDER, write_one)

    with pytest.raises(PipelineError, match=r"cannot read .*corpus\.json.*delete its folder"):
        TextPipeline().prepare()


def test_images_are_augmented_within_their_range(cached: Path) -> None:
    image, label = elements(JpegPipeline(), 1)[0]

    augmented, same = JpegPipeline().transform(tf.constant(image), tf.constant(label, tf.int32))

    assert (augmented.dtype, augmented.shape, int(same)) == (tf.float32, image.shape, label)
    assert 0.0 <= augmented.numpy().min() < augmented.numpy().max() <= 1.0
    assert not np.allclose(augmented, image / 255.0, atol=0.01)


def test_texts_have_known_words_and_varying_length(cached: Path) -> None:
    ids = [element[0] for element in elements(TextPipeline(), 1_000)]

    lengths = {len(one) for one in ids}
    assert min(lengths) >= 1
    assert max(lengths) == text.LONGEST
    assert len(lengths) > 30
    words = np.concatenate(ids)
    assert words.min() == text.UNKNOWN
    assert words.max() < text.VOCABULARY
    assert (words == text.UNKNOWN).mean() < 0.1


def test_tokens_are_lower_case_words_and_marks() -> None:
    assert text.tokens("Read 4 KiB, or\nless.") == ["read", "4", "kib", ",", "or", "less", "."]


def test_a_python_without_its_library_is_refused(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(empty))

    with pytest.raises(PipelineError, match="without the sources of its library"):
        TextPipeline().prepare()

    assert visible(empty) == []
