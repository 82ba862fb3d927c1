"""Ways to search, replayed on a made-up grid whose best point is known."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from benchmarks.journal import Journal, JournalError
from benchmarks.side_by_side.search.part import OURS, REPLAYS
from benchmarks.side_by_side.search.replay import after_seconds, arrived, regrets, table
from benchmarks.side_by_side.search.searches import (
    DIAGNOSIS_S,
    KerasTuner,
    Listed,
    Ours,
    Sampled,
    replayed,
    rule_of_thumb,
)
from benchmarks.side_by_side.search.surface import Surface, noise_of, read_surface
from benchmarks.side_by_side.search.table import lines
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.prediction import predict
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.pipelines.config import PipelineConfig
from tests.support.fakes import COSTS, INFO

CORES = 2.0


class Recorded(list[tuple[PipelineConfig, float, float]]):
    """A search whose trials are known."""

    begins_s = 0.0


@pytest.fixture(scope="module")
def surface() -> Surface:
    """Rates that are exactly those of the prediction, without noise."""
    diagnosis = diagnose(COSTS, CORES)
    options = Options(batch_size=8)
    space = offer(INFO, options, diagnosis, CORES).space
    rates = {config: predict(COSTS, config, CORES) for config in space.grid()}
    return Surface(INFO, options, diagnosis, rates, 0.0, CORES)


def test_a_point_of_the_grid_has_its_own_rate_and_others_that_of_their_neighbours(
    surface: Surface,
) -> None:
    point, other = (
        PipelineConfig(batch_size=8, prefetch_buffer=b, map_parallelism=2) for b in (4, 5)
    )

    assert surface.rate(point) == pytest.approx(predict(COSTS, point, CORES), rel=0.01)
    assert surface.rate(other) == pytest.approx(predict(COSTS, other, CORES), rel=0.1)


def test_our_search_is_replayed_as_it_is_and_finds_the_best_by_its_prediction(
    surface: Surface,
) -> None:
    run = regrets(Ours(surface, 0), surface, 10)

    assert len(run) == 10
    assert run[-1].regret < 0.05
    assert run[0].seconds > DIAGNOSIS_S  # its seconds count
    assert after_seconds(run, DIAGNOSIS_S) == 1.0


def test_regret_is_by_the_true_rate_of_the_luckiest_trial(surface: Surface) -> None:
    worst = PipelineConfig(batch_size=8, prefetch_buffer=1, map_parallelism=1)
    best = max(surface.space.grid(), key=surface.rate)
    lucky = [(worst, 1e9, 1.0), (best, 1.0, 1.0)]

    run = regrets(Recorded(lucky), surface, 2)
    far = pytest.approx(1.0 - surface.rate(worst) / surface.best)
    assert run[0].regret == run[1].regret == far


def test_a_confirmation_of_the_best_two_corrects_luck(surface: Surface) -> None:
    worst = PipelineConfig(batch_size=8, prefetch_buffer=1, map_parallelism=1)
    best = max(surface.space.grid(), key=surface.rate)
    lucky = [(worst, 1e9, 1.0), (worst, 9e8, 1.0), (best, 1.0, 1.0), (best, 0.0, 1.0)]

    run = regrets(Recorded(lucky), surface, 4)
    assert run[1].confirmed == run[1].regret  # two trials of one configuration are one
    assert run[2].confirmed == run[3].confirmed == pytest.approx(0.0, abs=1e-6)


def test_who_arrives_stays_near_the_best() -> None:
    assert arrived([0.5, 0.01, 0.01]) == 2
    assert arrived([0.01, 0.2]) is None
    assert arrived([0.0]) == 1


def test_the_rule_of_thumb_takes_what_the_space_offers(surface: Surface) -> None:
    assert rule_of_thumb(surface.space, CORES) == PipelineConfig(
        batch_size=8, prefetch_buffer=4, map_parallelism=2
    )
    thumb = Listed(
        [rule_of_thumb(surface.space, CORES)], lambda config: (surface.rate(config), 1.0)
    )
    assert len({after.regret for after in regrets(thumb, surface, 3)}) == 1


def test_keras_tuner_searches_the_same_space(surface: Surface) -> None:
    space = offer(INFO, Options(), surface.diagnosis, CORES).space
    way = KerasTuner(space, lambda config: (surface.rate(config), 1.0), 0)
    tried = [config for config, _, _ in itertools.islice(way, 12)]

    assert len(set(tried)) > 6
    assert all(space.config_of(space.params(config)) == config for config in tried)


def test_the_table_has_a_row_per_way(surface: Surface) -> None:
    ways = replayed(surface, CORES)
    lines = list(table({name: [regrets(ways[name](0), surface, 40)] for name in ways}))

    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "ours",
        "first trials alone",
        "TPE",
        "Gaussian process (keras-tuner)",
        "random",
        "rule of thumb",
    ]


def test_the_document_says_whether_our_search_needs_half_the_trials(tmp_path: Path) -> None:
    def rows(ours: str) -> list[str]:
        needed = {OURS: ours, "TPE": "18", "Gaussian process (keras-tuner)": "12"}
        needed["random"] = "over 40"
        cells = [f"| {way} | 1.4% | {count} | 1 |" for way, count in needed.items()]
        return ["| | 5 trials | trials to 5% | of the best two |", "|---|---:|---:|---:|", *cells]

    with Journal(tmp_path / "bench.jsonl", {}) as journal:
        facts = {"seeds": 10, "noise": 0.04, "best": 1e3, "searched": [], "left_out": {}}
        for name, ours in (("image", "6"), ("noisy", "7"), ("blocking_map", "over 40")):
            journal.add(REPLAYS, f"{name}/all", rows=rows(ours), points=200, **facts)
        text = list(lines(journal))

    assert "| image | 6 | 18 | 12 | over 40 | reached |" in text
    assert "| noisy | 7 | 18 | 12 | over 40 | not reached |" in text
    assert "| blocking_map | over 40 | 18 | 12 | over 40 | not reached |" in text


def test_a_grid_is_read_with_the_drift_of_its_reference_taken_out(tmp_path: Path) -> None:
    """The host is half as fast beside the second point."""
    path = tmp_path / "grid.jsonl"
    pinned = {"batch_size": 8, "axes": "basic"}
    point = PipelineConfig(batch_size=8, prefetch_buffer=2, map_parallelism=1)
    configs = [point, point.model_copy(update={"prefetch_buffer": 16})]
    with Journal(path, pinned, info=INFO, costs=COSTS) as journal:
        for number, rate in enumerate((100.0, 100.0, 50.0)):
            journal.add("points", f"reference/{number:04d}", examples_per_s=rate)
        for number, (config, rate) in enumerate(zip(configs, (200.0, 150.0), strict=True), start=1):
            journal.add("points", f"point/{number:04d}", config=config, examples_per_s=rate)
    found = read_surface(path, CORES)

    assert found.rate(configs[0]) == pytest.approx(200.0, rel=0.01)
    assert found.rate(configs[1]) == pytest.approx(200.0, rel=0.01)
    assert [axis.name for axis in found.space.axes] == ["prefetch_buffer", "map_parallelism"]
    with pytest.raises(JournalError, match="isn't a grid to replay"):
        read_surface(tmp_path / "none.jsonl", CORES)


def test_noise_is_that_of_consecutive_trials_not_of_the_hosts_drift() -> None:
    rng = random.Random(0)
    drifting = [1_000.0 * (1.0 + n / 100) * (1.0 + rng.gauss(0.0, 0.05)) for n in range(400)]

    assert noise_of(drifting) == pytest.approx(0.05, rel=0.15)
    assert Sampled.begins_s == 0.0
