"""A report says what its record says, in text that HTML and Markdown show unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.report.document import Report
from prefetch_tuning.experiments.report.tables import confirmation_table
from prefetch_tuning.experiments.report.text import (
    batch_time,
    between,
    factor,
    findings,
    gain_words,
    of_the_limit,
    of_the_step,
    rate,
    settings,
)
from prefetch_tuning.experiments.report.verdict_words import choice, tone, verdict
from prefetch_tuning.experiments.search.pauses import Pauses
from prefetch_tuning.experiments.storage.config_file import config_from_file
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmation import Gain, Speedup
from prefetch_tuning.experiments.verdict.limit import Fraction
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.ratio import Ratio
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.conftest import HANG_S
from tests.support import report_records

FIGURES = ("confirmation", "memory", "stages", "batch-sizes", "axes", "trials", "importance")
SECTIONS = (*FIGURES, "failures", "snippet", "environment")
HOSTILE = "</script><img src=x onerror=alert(1)>\n| a | `b` **c** & \"d\" 'e'"


def with_speedup(ratio: float, low: float, high: float) -> StudyRecord:
    record = report_records.full()
    interval = Interval(low=low, high=high)
    said = "faster" if low > 1 else "slower" if high < 1 else "no significant difference"
    plain = Ratio.model_validate({"ratio": ratio, "ci": interval, "verdict": said})
    speedup = Speedup(**dict(plain), candidate="trial-17", baseline=AUTOTUNE)
    autotune = next(c for c in record.result.confirmation if c.candidate == AUTOTUNE)
    recommended = record.result.recommended
    assert recommended is not None
    if said != "faster":
        recommended = recommended.model_copy(
            update={"candidate": AUTOTUNE, "config": autotune.config}
        )
    result = record.result.model_copy(update={"speedup": speedup, "recommended": recommended})
    return record.model_copy(update={"result": result})


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (
            (1.07, 1.03, 1.11),
            "1.07x AUTOTUNE (1.03x to 1.11x) at batch size 128.",
        ),
        (
            (84.3, 61.9, 91.2),
            "84x AUTOTUNE (62x to 91x) at batch size 128.",
        ),
        (
            (1.01, 0.97, 1.05),
            "no significant difference from AUTOTUNE at batch size 128: 1.01x (0.97x to 1.05x). "
            "Keep AUTOTUNE.",
        ),
        (
            (0.95, 0.91, 0.97),
            "slower than AUTOTUNE at batch size 128: 0.95x (0.91x to 0.97x). Keep AUTOTUNE.",
        ),
        (
            (1.3, 0.0, float("inf")),
            "1.30x AUTOTUNE at batch size 128, but a single round proves nothing. Keep AUTOTUNE.",
        ),
    ],
)
def test_the_verdict_has_its_uncertainty(numbers: tuple[float, float, float], said: str) -> None:
    assert verdict(with_speedup(*numbers)) == f"image: {said}"


def test_without_a_confirmation_the_best_is_called_lucky() -> None:
    text = Report(report_records.unconfirmed()).markdown()

    assert "unconfirmed. The best of 15 noisy trials is partly luck" in text
    assert "the fastest of 15 complete trials, not confirmed" in text
    assert tone(report_records.unconfirmed().result) == "unsure"


def test_a_recommendation_without_a_comparison_gives_its_reason() -> None:
    record = report_records.full()
    result = record.result.model_copy(update={"speedup": None})

    assert verdict(record.model_copy(update={"result": result})) == (
        "image: use batch 128, prefetch 3, map 3 (as fast as the fastest, with 73% of its memory)."
    )


def test_without_a_result_the_report_says_so_everywhere() -> None:
    empty = Report(report_records.nothing())
    page, text = empty.html(), empty.markdown()

    for document in (page, text):
        assert "lost: no result; none of 3 trials completed." in document
        assert "The costs of the stages were not measured." in document
        assert "there is no code" in document
        assert "ended by signal 11 (SIGSEGV)" in document
    assert "plotly-graph-div" not in page


def test_a_step_bound_pipeline_keeps_autotune_and_says_why() -> None:
    text = Report(report_records.step_bound()).markdown()

    assert ". Keep AUTOTUNE." in text
    assert "Limited by: the training step; each batch is ready before the step needs it" in text
    assert "num_parallel_calls=tf.data.AUTOTUNE" in text


def test_one_page_has_every_section_once_and_plotly_once() -> None:
    page = Report(report_records.full()).html()

    for section in SECTIONS:
        assert page.count(f'<section id="{section}">') == 1
        assert page.count(f'href="#{section}"') == 1
    assert page.count("* plotly.js v") == 1
    assert len(page.encode()) < 6_000_000
    assert 'name="viewport"' in page
    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", own)


def test_a_persons_words_cannot_leave_their_place_in_html() -> None:
    page = Report(report_records.hostile(HOSTILE)).html()
    own = page.replace(get_plotlyjs(), "")

    assert "<img" not in own
    assert "alert(1)&gt;" in own
    # The page's own scripts: plotly's configuration, plotly, one call for each of the nine figures,
    # and the copy button.
    assert own.count("</script>") == own.count("<script") == 12


def test_a_persons_words_cannot_leave_their_cell_in_markdown() -> None:
    text = Report(report_records.hostile(HOSTILE)).markdown().split("## Code")[0]
    failures = text.split("## Failed and stopped")[1]
    rows = [line for line in failures.splitlines() if line.startswith("|")]

    assert len(rows) == 2 + 9
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}
    assert not re.search(r"(?<!\\)<img", text)


def test_a_map_that_is_not_there_is_not_spoken_of() -> None:
    info = report_records.INFO.model_copy(update={"has_transform": False})
    config = PipelineConfig(batch_size=8, prefetch_buffer=0, map_parallelism=1)

    assert settings(config, info) == "batch 8, no prefetch"
    assert settings(config, report_records.INFO) == "batch 8, no prefetch, sequential map"


def test_numbers_keep_the_digits_that_tell_them_apart() -> None:
    assert (rate(12_345.6), rate(12.34)) == ("12,346", "12.3")
    assert between(Interval(low=0.0, high=float("inf"))) == "no interval"
    assert [factor(ratio) for ratio in (1.316, 8.44, 84.4)] == ["1.32x", "8.4x", "84x"]


def test_files_are_written_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "image"
    written = Report(report_records.full()).write(folder)

    names = ["report.html", "report.md", "snippet.py", "config.json"]
    assert [path.name for path in written] == names
    recommended = report_records.full().result.recommended
    assert recommended is not None
    assert config_from_file(folder / "config.json") == recommended.config
    assert sorted(folder.iterdir()) == sorted(written)
    assert Report(report_records.nothing()).write(tmp_path) == [
        tmp_path / "report.html",
        tmp_path / "report.md",
    ]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write the report into .*file.*Not a directory"):
        Report(report_records.nothing()).write(tmp_path / "file" / "folder")

    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="choose another folder"):
        Report(report_records.nothing()).write(tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_report_needs_neither_tensorflow_nor_mlflow_nor_optuna() -> None:
    code = (
        "import sys, prefetch_tuning.experiments.report.document\n"
        "sys.exit(' '.join({'tensorflow', 'keras', 'mlflow', 'optuna'} & {*sys.modules}) or None)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_gain_says_what_is_structure_and_what_is_settings() -> None:
    def speedup(ratio: float, low: float, high: float) -> Speedup:
        return Speedup(
            ratio=ratio,
            ci=Interval(low=low, high=high),
            verdict="faster",
            candidate="tuned-1",
            baseline=AUTOTUNE,
        )

    gain = Gain(structure=speedup(70.2, 62.0, 78.9), settings=speedup(1.034, 0.98, 1.07))

    assert gain_words(gain) == (
        "70x (62x to 79x) from the structure, with AUTOTUNE on it; 1.03x (0.98x to 1.07x) from "
        "fixed settings instead of AUTOTUNE on that structure"
    )
    result = report_records.full().result.model_copy(update={"gain": gain})
    assert ("Gain", gain_words(gain)) in findings(result)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "identical: in every round, each candidate's first batches equal the plain chain's, "
            "bit for bit",
        ),
        (
            {"data_batches": 47},
            "identical: in every round, each candidate's first batches (up to 47) equal the plain "
            "chain's, bit for bit",
        ),
        (
            {"other_data": ["tuned-1"]},
            "these candidates are excluded, because their data differ from the plain chain's: "
            "tuned-1",
        ),
        (
            {"data_checked": False},
            "not compared, because two runs of the plain chain already gave different batches, "
            "or could not be read",
        ),
    ],
)
def test_the_report_says_whether_the_data_were_compared(
    changes: dict[str, object], said: str
) -> None:
    result = report_records.full().result.model_copy(update=changes)

    assert ("Data", said) in findings(result)


def test_a_gpu_waits_for_the_rest_and_a_cpu_may_be_slowed_down() -> None:
    busy = Fraction(share=0.75, ci=Interval(low=0.7, high=0.8))
    whole = "75% (70% to 80%) of the rate of the step on ready batches"

    assert of_the_step(busy, "gpu: H100") == f"{whole}: the GPU waits for data 25% of the time"
    assert of_the_step(busy, "an emulated accelerator") == (
        f"{whole}: the emulated accelerator waits for data 25% of the time"
    )
    assert of_the_step(busy, "cpu").startswith(f"{whole}. On a CPU the rest is not all waiting")
    result = report_records.full().result
    assert result.limit is not None
    [chosen] = [c for c in result.confirmation if c.candidate == "trial-17"]
    # On a GPU the host may wait while steps run, so its waiting isn't shown as the step's.
    assert "the step waits" in batch_time(result.limit, chosen, "cpu")
    assert "the step waits" not in batch_time(result.limit, chosen, "gpu: H100")


def test_processes_are_said_to_need_a_server_in_real_training() -> None:
    record = report_records.full()
    result = record.result
    assert result.recommended is not None
    config = result.recommended.config.model_copy(update={"generator_workers": 2})
    chosen = result.recommended.model_copy(update={"config": config})
    split = record.model_copy(
        update={
            "result": result.model_copy(update={"recommended": chosen}),
            "server_mib": 312.4,
        }
    )

    assert "Processes" not in dict(choice(record))
    assert "about 312 MiB" in dict(choice(split))["Processes"]


def test_pauses_are_said_beside_the_bottleneck() -> None:
    result = report_records.full().result
    assert result.diagnosis is not None
    pauses = Pauses(
        mean_s=1.0,
        apart_s=6.0,
        elements_apart=0.0,
        flowing_share=5 / 6,
        step_s={16: 0.02, 32: 0.04},
        replayed={16: {4: 90.0, 64: 100.0}, 32: {4: 90.0, 32: 100.0}},
    )
    diagnosis = result.diagnosis.model_copy(update={"pauses": pauses})

    said = dict(findings(result.model_copy(update={"diagnosis": diagnosis})))["Generator"]

    assert said == (
        "pauses for 1.0 s about every 6.0 s; the smallest prefetch buffer that bridges that is 64 "
        "batches of 16 or 32 batches of 32"
    )


def test_more_than_the_whole_limit_is_called_wrong() -> None:
    result = report_records.full().result
    assert result.limit is not None
    beyond = Fraction(share=1.2, ci=Interval(low=1.05, high=1.3))

    assert of_the_limit(result.limit, beyond).endswith(
        ". More than 100% is impossible, so the rate or the limit was measured wrong"
    )


def test_who_left_early_is_not_judged() -> None:
    record = report_records.full()
    first, *others = record.result.confirmation
    left = first.model_copy(update={"rounds": 2})
    result = record.result.model_copy(update={"confirmation": [left, *others]})

    rows = confirmation_table(record.model_copy(update={"result": result})).rows

    assert [row[4] for row in rows if row[4]].count("left early") == 1
    assert rows[0][4] == "left early"
