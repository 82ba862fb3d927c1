"""The comparison's arithmetic, its document and its misuse; what it measures has its own tests."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from benchmarks.journal import Journal
from benchmarks.side_by_side.__main__ import document, main
from benchmarks.side_by_side.compare import Comparison, slower_ones
from benchmarks.side_by_side.growth import part as part_growth
from benchmarks.side_by_side.growth.exclusive import Exclusive
from benchmarks.side_by_side.growth.study import Size
from benchmarks.side_by_side.parts import PARTS
from benchmarks.side_by_side.rivals import table as rivals_table
from benchmarks.side_by_side.search import table as search_table
from tests.support.fakes import FakeClock


def compared(name: str, share: float, seed: int = 0) -> Comparison:
    """Ours at this share of the other's rate, with 5% of noise in nine rounds."""
    rng = random.Random(seed)
    others = [1_000.0 * math.exp(rng.gauss(0.0, 0.05)) for _ in range(9)]
    ours = [share * rate * math.exp(rng.gauss(0.0, 0.05)) for rate in others]
    return Comparison.of(name, ours, others)


def test_ours_is_slower_only_where_noise_does_not_explain_it() -> None:
    clearly, hardly, faster = compared("a", 0.8), compared("b", 0.99), compared("c", 1.5)

    assert slower_ones([faster, clearly, hardly]) == [clearly]
    assert clearly.ratio.ci.high < 1.0


def test_of_many_equal_ones_none_is_slower_than_ours() -> None:
    """Without the correction, about five of a hundred would be."""
    equal = [compared(str(seed), 1.0, seed) for seed in range(100)]

    assert sum(one.slower < 0.05 for one in equal) >= 2
    assert slower_ones(equal) == []


def test_a_calls_time_does_not_count_what_runs_inside_it() -> None:
    clock = FakeClock()

    class Work:
        def outer(self) -> None:
            clock.now += 1.0
            self.inner()
            clock.now += 2.0
            self.inner()

        def inner(self) -> None:
            clock.now += 10.0

    work, parts = Work(), Exclusive(clock)
    parts.count("inner", work, "inner")
    parts.count("outer", work, "outer")
    work.outer()
    work.inner()

    assert parts.seconds == {"outer": 3.0, "inner": 30.0}


def test_the_document_has_a_section_per_part_and_no_figure_of_its_own(tmp_path: Path) -> None:
    with Journal(tmp_path / "empty.jsonl", {}) as journal:
        text = list(document("bench-1", journal))

    assert [line for line in text if line.startswith("## ")][:-1] == [
        f"## {part.title}" for part in PARTS.values()
    ]
    assert text.count("Not measured in this run.") == len(PARTS)


def test_the_rivals_table_names_those_that_are_faster(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        for number in range(9):
            rates = {"ours": 100.0 + number, "autotune": 50.0 + number, "PyDataset": 200.0 + number}
            for name, rate in rates.items():
                key = f"{number:02d}/{name}"
                journal.add("rivals/noisy", key, examples_per_s=rate, config=None)
        text = list(rivals_table.lines(journal))

    assert any(line.startswith("| noisy | PyDataset | **0.51x") for line in text)
    assert any(line.startswith("| noisy | autotune | 1.9") for line in text)
    assert any(
        line.startswith("On noisy, PyDataset is significantly faster than ours: 0.5")
        for line in text
    )


def test_a_rival_that_could_not_be_measured_is_named(tmp_path: Path) -> None:
    failure = {"kind": "timeout", "detail": "", "output": ""}
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        for number in range(2):
            for name in ("ours", "autotune"):
                key = f"{number:02d}/{name}"
                journal.add("rivals/noisy", key, examples_per_s=100.0 + number, config=None)
        journal.add("looks", "noisy/grain_processes/1", examples_per_s=None, failure=failure)
        journal.add("looks", "noisy/keras_threads/1", examples_per_s=None, failure=failure)
        journal.add("looks", "noisy/keras_threads/2", examples_per_s=9.0)
        text = list(rivals_table.lines(journal))

    assert "On noisy, grain mp_prefetch could not be measured (timeout)." in text
    assert sum("could not be measured" in line for line in text) == 1


def test_the_search_is_beside_the_grids_best(tmp_path: Path) -> None:
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        for number in range(15):
            for name, rate in {"ours": 99.0 + number % 3, "the grid's best": 100.0}.items():
                key = f"{number:02d}/{name}"
                journal.add("beside the best/image", key, examples_per_s=rate, config=None)
        facts = {"seeds": 10, "points": 9, "noise": 0.1, "best": 1}
        searched = ["prefetch_buffer 1 to 64", "map_parallelism 1 to 8"]
        ways = ("ours", "TPE", "Gaussian process (keras-tuner)", "random")
        rows = ["| | trials to 5% |", "|---|---:|", *(f"| {way} | 3 |" for way in ways)]
        journal.add("replays", "image/all", rows=rows, searched=searched, left_out={}, **facts)
        text = list(search_table.lines(journal))

    assert any(line.startswith("| image | 15 | 1.00x") and "| reached |" in line for line in text)
    assert any("over 10 seeds" in line for line in text)
    assert any("prefetch_buffer 1 to 64; map_parallelism 1 to 8" in line for line in text)


def test_growth_is_told_beside_what_is_wanted(tmp_path: Path) -> None:
    sizes = [
        Size(
            trials=trials,
            parts_ms={"sampler": ms, "MLflow": 50.0},
            report_s=1.0,
            optuna_mib=1.0,
            mlflow_mib=2.0,
            table_s=0.1,
        )
        for trials, ms in ((100, 50.0), (5_000, 100.0))
    ]
    with Journal(tmp_path / "run.jsonl", {}) as journal:
        for size in reversed(sizes):
            journal.add("growth", str(size.trials), size=size)
        text = list(part_growth.lines(journal))

    assert text[-1].startswith("After 5,000 trials, the next one costs 1.50 times what it costs")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no part 'nothing' (there are: search, rivals"),
        (["--of", "gone"], "no run named 'gone'"),
    ],
)
def test_misuse_is_a_line(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 2
    assert f"error: {said}" in capsys.readouterr().err
