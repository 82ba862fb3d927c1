"""The A/A test: its arithmetic on made-up measurements, and one real run."""

from __future__ import annotations

import json
import random
from itertools import cycle
from pathlib import Path

import pytest
from mlflow import MlflowClient
from scipy import stats

from prefetch_tuning.experiments.commands.selftest_output import lines, selftest_and_report
from prefetch_tuning.experiments.repeat.selftest import (
    SelfTest,
    SelfTestRequest,
    judge,
    middling,
    self_test,
)
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.schema import SELFTEST_METRICS
from prefetch_tuning.experiments.verdict.ratio import Ratio
from prefetch_tuning.objectives.measurement import Measurement, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.source import PipelineError
from tests.process.test_runner import QUICK
from tests.support.fakes import INFO, FakeRunner, measurement


class Wandering(FakeRunner):
    """Returns the rates of a list over and over, for every spec."""

    def __init__(self, rates: list[float]) -> None:
        super().__init__([])
        self.rates = cycle(rates)

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        return measurement(next(self.rates))


def run(runner: FakeRunner, comparisons: int = 3) -> tuple[SelfTest, list[Ratio]]:
    said: list[Ratio] = []
    request = SelfTestRequest(target=INFO.target, comparisons=comparisons, rounds=9)
    return self_test(request, INFO, runner, said.append), said


def test_every_comparison_is_a_confirmation_of_one_configuration_with_itself() -> None:
    runner = Wandering([1_000.0])
    found, said = run(runner)

    assert len(runner.specs) == 3 * 9 * 2
    assert {spec.config for spec in runner.specs} == {middling(INFO)}
    assert said == found.ratios
    assert (found.false_share, found.cv, found.round_cv) == (0.0, 0.0, 0.0)
    assert "compared with itself 3 times, with 9 rounds each" in lines(found)[0]
    assert (
        "0 verdicts of faster or slower: 0.0% (0.0% to 70.8%); 5% are expected" in lines(found)[0]
    )


def test_a_false_verdict_is_counted() -> None:
    """In the first of two comparisons, the host is slower whenever side "a" runs."""

    class Unfair(FakeRunner):
        def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
            self.specs.append(spec)
            # A spec doesn't say which side it is, so `rates` repeats the order that the seed gives.
            return measurement(rates.pop(0))

    order, rates = random.Random(0), []
    for number in range(18):
        sides = order.sample(("a", "b"), 2)
        rates += [900.0 if side == "a" and number < 9 else 1_000.0 for side in sides]

    found, _ = run(Unfair([]), comparisons=2)

    assert [ratio.verdict for ratio in found.ratios] == ["slower", "no significant difference"]
    assert found.false_share == 0.5


def test_a_sound_host_fails_in_at_most_one_run_in_a_hundred() -> None:
    # 40 comparisons, each false in 5 % of the cases: the exact binomial probabilities.
    chances = [stats.binom.pmf(false, 40, 0.05) for false in range(41)]
    fails = sum(chance for false, chance in enumerate(chances) if not judge(false, 40)[1])

    assert 0.0 < fails <= 0.01
    assert judge(2, 40)[1]
    assert not judge(10, 40)[1]
    ci, _ = judge(1, 40)
    assert ci.low == pytest.approx(0.0006, abs=1e-4)
    assert ci.high == pytest.approx(0.1316, abs=1e-4)


def test_the_noise_within_a_round_is_not_understated() -> None:
    rng = random.Random(1)
    found, _ = run(Wandering([rng.gauss(1_000.0, 70.0) for _ in range(2_000)]), comparisons=40)

    assert found.cv == pytest.approx(0.07, rel=0.1)
    assert found.round_cv == pytest.approx(found.cv, rel=0.1)


def test_a_noisy_host_is_said_with_what_it_can_tell_apart() -> None:
    found, _ = run(Wandering([1_000.0, 1_100.0, 900.0, 1_050.0, 980.0]))

    assert found.cv > 0.05
    assert found.warnings[-1].startswith("the same configuration differs by 7% from run to run")


def test_a_run_that_fails_ends_it() -> None:
    failure = TrialFailure(kind="generator", detail="KeyError: 'lost'")

    with pytest.raises(PipelineError, match="generator: KeyError: 'lost'"):
        run(FakeRunner([measurement(), failure]))


def test_ctrl_c_keeps_the_comparisons_that_there_are() -> None:
    found, _ = run(FakeRunner([*[measurement()] * 20, KeyboardInterrupt()]))
    assert len(found.ratios) == 1

    with pytest.raises(KeyboardInterrupt):
        run(FakeRunner([measurement(), KeyboardInterrupt()]))


@pytest.mark.slow
def test_what_it_found_is_printed_and_logged(
    tmp_path: Path, runner: TrialRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store.choose(tmp_path, None, None)
    request = SelfTestRequest(
        target="tests.planted.pipelines:Mapped", comparisons=1, rounds=9, device="cpu", stop=QUICK
    )

    code = selftest_and_report(request, store, runner, tmp_path / "a.json")

    document = json.loads((tmp_path / "a.json").read_text())
    assert code == (not document["sound"])
    assert len(document["ratios"]) == 1
    assert f"{document['cv']:.1%} from run to run (CV)" in capsys.readouterr().out
    client = MlflowClient(tracking_uri=store.tracking_uri)
    experiment = client.get_experiment_by_name("selftest")
    assert experiment is not None
    [logged] = client.search_runs([experiment.experiment_id])
    assert logged.data.metrics["selftest/cv"] == document["cv"]
    assert logged.data.metrics.keys() == SELFTEST_METRICS.keys()
    assert logged.data.params["batch_size"] == "8"
