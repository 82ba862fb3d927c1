"""`prefetch-tune check` as users type it: what it takes, what it refuses, and how it exits."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from prefetch_tuning.experiments.cli import parser
from prefetch_tuning.experiments.commands.check_output import check_and_report
from prefetch_tuning.experiments.commands.values import duration_s, margin
from prefetch_tuning.experiments.errors import StudyError, UsageError
from prefetch_tuning.experiments.repeat.check_sources import Source, from_file, from_store, is_file
from prefetch_tuning.experiments.repeat.checked import CheckOptions
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.verdict.measurements import MeasuredRound, RoundMeasurement
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.conftest import ROOT
from tests.process.test_runner import QUICK
from tests.study.test_study import Bench
from tests.support.fakes import INFO, FakeRunner, measurement
from tests.test_cli import prefetch_tune

SIMPLE = catalog.resolve("simple")
# Blocks: on `simple`, 70 times as fast as AUTOTUNE on one element after another.
FAST = PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=1, generator_chunk=256)
BEGAN = 1_700_000_000.0


def written(folder: Path, config: PipelineConfig, name: str = "config.json") -> str:
    (folder / name).write_text(config.model_dump_json())
    return str(folder / name)


class ByConfig(FakeRunner):
    """Answers each configuration with a constant rate, or with a failure."""

    def __init__(self, answers: dict[PipelineConfig, float | TrialFailure]) -> None:
        super().__init__([])
        self.by_config = answers

    def inspect(self, pipeline: str, seed: int, device: Device) -> PipelineInfo:
        return INFO.model_copy(update={"target": pipeline, "own": {"workers": 3}})

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        answer = self.by_config[spec.config]
        return answer if isinstance(answer, TrialFailure) else measurement(answer)


AUTOTUNE = PipelineConfig.autotune(32, workers=3)  # with what the pipeline was made with
HOW = CheckOptions(target=SIMPLE, margin=0.05, time_s=600.0)


@pytest.mark.parametrize(
    ("checked", "code", "said"),
    [
        (1_000.0, 0, "mapped: not slower than AUTOTUNE by more than 5%"),
        (900.0, 3, "mapped: SLOWER than AUTOTUNE by more than 5%"),
        (
            TrialFailure(kind="crash", detail="SIGSEGV"),
            3,
            "mapped: FAILED: config.json cannot be measured, but AUTOTUNE can",
        ),
    ],
)
def test_each_outcome_has_its_exit_code(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    checked: float | TrialFailure,
    code: int,
    said: str,
) -> None:
    runner = ByConfig({FAST: checked, AUTOTUNE: 1_000.0})
    source = Source(said="config.json", config=FAST)

    assert check_and_report(source, None, HOW, runner, tmp_path / "check.json") == code
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == said
    assert printed.err.splitlines()[0] == (
        "mapped: batch 32, prefetch 4, map 1, chunk 256, against AUTOTUNE; at most 10 min"
    )
    # Outside a terminal there is no line per round.
    assert printed.err.count("\n") <= 3
    document = json.loads((tmp_path / "check.json").read_text())
    assert document["outcome"] == said.split(": ")[1].lower().split(" than")[0].split(":")[0]
    assert document["request"]["margin"] == 0.05


def test_undecided_is_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = ByConfig({FAST: 1_000.0, AUTOTUNE: 1_000.0})
    short = HOW.model_copy(update={"time_s": 1e-9})

    assert check_and_report(Source(said="c", config=FAST), None, short, runner, None) == 4
    assert "UNDECIDED" in capsys.readouterr().out


def test_another_configuration_takes_the_place_of_autotune(
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = FAST.model_copy(update={"prefetch_buffer": 1})
    runner = ByConfig({FAST: 1_200.0, base: 1_000.0})
    source, other = Source(said="new.json", config=FAST), Source(said="base.json", config=base)

    assert check_and_report(source, other, HOW, runner, None) == 0
    assert "1.200x base.json (1.200x to 1.200x)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["config.json"], "config.json doesn't name its pipeline; use prefetch-tune check"),
        (["config.json", "smiple"], "no pipeline named 'smiple'; did you mean 'simple'?"),
        (["nowhere.json", "simple"], "cannot read 'nowhere.json': No such file"),
        (["broken.json", "simple"], "broken.json does not contain JSON"),
        (["binary.json", "simple"], "binary.json does not contain JSON"),
        (["config.json", "simple", "--against", "wide.json"], "has batch size 32 and wide.json 64"),
        (["config.json", "simple", "--against", "nothing"], "neither a file here nor a study"),
        (["runs:/abc", "simple"], "there is no "),
        (["config.json", "simple", "--margin", "5"], "--margin: must be a percentage like 5%"),
        (["config.json", "simple", "--margin", "0%"], "above 0% and at most 50%, not 0%"),
        (["config.json", "simple", "--time", "5"], "--time: must be a time like 90s, 5m or 1h"),
        (["config.json", "simple", "--time", "0s"], "above 0s and at most 24h, not 0s"),
        (["config.json", "simple", "--json", "no/where.json"], "--json no/where.json: not a file"),
        (["config.json", "--step-time", "5ms"], "name the pipeline that the options of its model"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    written(tmp_path, FAST)
    written(tmp_path, FAST.model_copy(update={"batch_size": 64}), "wide.json")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\x00")
    before = sorted(tmp_path.iterdir())

    done = prefetch_tune(tmp_path, "check", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert (done.stderr[:7], done.stderr.count("\n")) == ("error: ", 1)
    assert sorted(tmp_path.iterdir()) == before


def test_percentages_and_times() -> None:
    assert (margin("5%"), margin("0.5 %")) == (0.05, 0.005)
    assert (duration_s("90s"), duration_s("5m"), duration_s("1.5h")) == (90.0, 300.0, 5_400.0)


class Stored:
    """A folder with a study that recommends FAST, one that recommends nothing, and two runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bench = Bench(folder)
        kept = self.bench.study.kept
        kept.nominate({"tuned-1": FAST, "autotune": PipelineConfig.autotune(32)})
        for _ in range(9):
            measured = {
                name: RoundMeasurement.of(measurement(rate), "run")
                for name, rate in (("tuned-1", 2_000.0), ("autotune", 1_000.0))
            }
            kept.add_round(MeasuredRound(measured=measured, seconds=1.0))
        settings = kept.settings.model_copy(update={"name": "empty"})
        self.bench.open(settings)
        tracker = Tracker(self.bench.store)
        parent = tracker.start_study("simple", "t", {})
        self.own, self.theirs = (
            tracker.log_trial(
                parent,
                "#00",
                TrialSpec(pipeline=target, config=FAST, seed=5),
                measurement(),
                "complete",
                {"kind": "trial"},
                BEGAN,
            )
            for target in (SIMPLE, "their.module:Pipeline")
        )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return Stored(tmp_path_factory.mktemp("stored"))


def test_files_runs_and_studies_give_their_configuration(stored: Stored, tmp_path: Path) -> None:
    store = stored.bench.store
    file = written(tmp_path, FAST)
    run, study = from_store(f"runs:/{stored.own}", store), from_store("s", store)

    assert is_file(file)
    assert not any(map(is_file, ("s", f"runs:/{stored.own}")))
    assert from_file(file) == Source(said=file, config=FAST)
    said = f"run {stored.own}"
    assert run == Source(said=said, config=FAST, target=SIMPLE, seed=5, stop=StopRule())
    # The study's settings have the seed 3, the CPU and 9 s for a trial.
    assert study.model_dump() == {
        "said": "study s",
        "config": FAST.model_dump(),
        "target": INFO.target,
        "chain": "",
        "seed": 3,
        "device": "cpu",
        "stop": StopRule().model_dump(),
        "trial_timeout_s": 9.0,
    }


def test_what_recommends_nothing_is_refused(stored: Stored) -> None:
    with pytest.raises(StudyError, match="recommends nothing to check; run: prefetch-tune confirm"):
        from_store("empty", stored.bench.store)
    with pytest.raises(StudyError, match=r"no study named 'nobody' in .*there are: empty, s"):
        from_store("nobody", stored.bench.store)


@pytest.mark.parametrize("against", [False, True])
def test_code_of_others_runs_only_if_it_is_named_here_or_trusted(
    stored: Stored, monkeypatch: pytest.MonkeyPatch, against: bool
) -> None:
    def no_process() -> None:
        raise UsageError("a process would start now")

    monkeypatch.setattr("prefetch_tuning.experiments.commands.check.TrialRunner", no_process)
    more = ("--against", f"runs:/{stored.theirs}") if against else ()

    def check(*arguments: str) -> str:
        done = prefetch_tune(stored.folder, "check", f"runs:/{stored.theirs}", *arguments, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        return done.stderr

    assert "would import 'their.module:Pipeline', which isn't built in" in check()
    assert f"use prefetch-tune check runs:/{stored.theirs} their.module:Pipeline" in check()
    assert "measured 'their.module:Pipeline', not " in check("simple")
    assert check("--trust") == "error: a process would start now\n"
    assert check("their.module:Pipeline") == "error: a process would start now\n"


def test_the_reference_must_be_of_the_same_pipeline(stored: Stored) -> None:
    done = prefetch_tune(
        stored.folder, "check", f"runs:/{stored.own}", "--against", f"runs:/{stored.theirs}"
    )

    assert done.returncode == 2
    assert f"run {stored.theirs} measured 'their.module:Pipeline', not {SIMPLE!r}" in done.stderr


def test_real_rounds_tell_two_configurations_apart(
    tmp_path: Path, runner: TrialRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """The map waits 4 ms, so four calls in flight are four times as fast, however busy the host."""
    calls = {
        number: Source(
            said=f"map {number}",
            config=PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=number),
        )
        for number in (1, 4)
    }
    planted = "tests.planted.costs:BlockingMap"
    how = CheckOptions(target=planted, margin=0.05, time_s=120.0, device="cpu", stop=QUICK)

    assert check_and_report(calls[1], calls[4], how, runner, tmp_path / "check.json") == 3

    found = json.loads((tmp_path / "check.json").read_text())
    assert found["data_checked"] is True
    assert 0.1 < found["found"]["ratio"] < 0.7
    assert "SLOWER than map 4 by more than 5%" in capsys.readouterr().out


def page() -> str:
    return (ROOT / "docs" / "check.md").read_text()


def documented() -> list[list[str]]:
    found = re.findall(
        r"^ *(?:\.venv/bin/)?prefetch-tune (check .*?)(?: \|\|)?$", page(), re.MULTILINE
    )
    return [shlex.split(line, comments=True) for line in found]


def test_every_documented_command_is_one() -> None:
    found = [parser().parse_args(words) for words in documented()]

    # Three at the top, and two in the workflow, which also says what becomes of an undecided check.
    assert [options.against for options in found] == [
        *("autotune", "base.json", "autotune"),
        *("autotune", "base.json"),
    ]
    assert page().count("[ $? -eq 4 ]") == 2


@pytest.mark.slow
def test_the_documented_command_runs(tmp_path: Path) -> None:
    """The first one of docs/check.md, without a store: what a CI machine has."""
    words: list[Any] = documented()[0]
    assert words[:3] == ["check", "config.json", "simple"]
    written(tmp_path, FAST)

    done = prefetch_tune(tmp_path, *words, "--device", "cpu", "--json", "check.json")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("simple: not slower than AUTOTUNE by more than 5%\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.json", "config.json"]
    assert Store.choose(tmp_path, None, None).folder == tmp_path / "mlruns"
