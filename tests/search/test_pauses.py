"""Which buffer bridges a generator's pauses, from made-up recordings, and what follows from it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.search.first_trials import candidates, first_trials
from prefetch_tuning.experiments.search.pauses import Pauses, find_pauses, near, replay
from prefetch_tuning.experiments.settings import Options
from prefetch_tuning.objectives.arrivals import Arrivals, Pause
from prefetch_tuning.objectives.loop.steady_state import measure
from prefetch_tuning.objectives.loop.windows import mean_rate
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.throughput import Throughput
from tests.support.fakes import COSTS, INFO, FakeClock, FakeFeed, cost

# A step of 20 ms takes batches of 8 at 85% of the generator's mean rate. After every 5 s of making
# elements, the generator pauses for 1 s.
STEP_S, BATCH, FLOW_S, PAUSE_S = 0.02, 8, 5.0, 1.0
ELEMENT_S = 0.85 * STEP_S / BATCH * FLOW_S / (FLOW_S + PAUSE_S)
STEP_BOUND = COSTS.model_copy(
    update={
        "generator": cost(10.0),
        "from_generator": cost(20.0),
        "map": None,
        "step": cost(1e6 * STEP_S / BATCH, cpu_us=10.0),
        "step_s": {4: STEP_S, BATCH: STEP_S},
    }
)
NO_MAP = INFO.model_copy(
    update={"axes": ["generator_chunk"], "not_offered": {}, "has_transform": False}
)


def recording(pauses: int = 3, flow_s: float = FLOW_S, pause_s: float = PAUSE_S) -> Arrivals:
    """A recording that ends with its last pause."""
    each = round(flow_s / ELEMENT_S)
    gaps = np.full(each * pauses, ELEMENT_S)
    gaps[each - 1 :: each] = pause_s
    times = np.cumsum(gaps)
    found = [
        Pause(begin_s=times[n * each - 1] - pause_s, seconds=pause_s, elements=n * each - 1)
        for n in range(1, pauses + 1)
    ]
    return Arrivals(every=1, times_s=times.tolist(), pauses=found, seconds=times[-1])


def planted(step_s: float = STEP_S) -> Pauses:
    found = find_pauses(recording(), {4: step_s / 2, BATCH: step_s})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("buffer", "seconds"),
    [
        # Made at 1, 2, ... if there is room. With one buffer: made at 1, taken at 1; made at 2,
        # taken at 4 when the first step of 3 s ends; the third is begun at 4 and made at 9.
        (1, 12.0),
        # With two buffers the third is begun at 2 and made at 7, when the second step ends.
        (2, 10.0),
        (9, 10.0),
    ],
)
def test_a_replay_is_exact(buffer: int, seconds: float) -> None:
    assert replay(np.array([1.0, 1.0, 5.0]), 3.0, buffer) == seconds


def test_the_planted_pauses_are_measured_and_bridged() -> None:
    found = planted()

    assert found.mean_s == pytest.approx(PAUSE_S)
    assert found.apart_s == pytest.approx(FLOW_S + PAUSE_S, rel=1e-3)
    assert found.flowing_share == pytest.approx(FLOW_S / (FLOW_S + PAUSE_S), rel=1e-3)
    # 50 steps fit into a pause. Of the buffers that are tried, 64 is the first to last as long.
    assert found.bridging == {4: 128, BATCH: 64}
    assert found.replayed[BATCH][64] == pytest.approx(BATCH / STEP_S, rel=0.01)
    assert found.replayed[BATCH][1] < 0.95 * BATCH / STEP_S
    assert found.in_words.endswith("is 128 batches of 4 or 64 batches of 8")


def test_what_is_between_generator_and_step_delays_every_batch() -> None:
    found = find_pauses(recording(), {BATCH: STEP_S}, other_s=STEP_S / BATCH)

    assert found is not None
    # Making a batch takes longer than its step, so no buffer fills.
    assert found.bridging == {}


def test_pauses_are_found_in_a_recording_that_kept_few_of_the_elements() -> None:
    # A pause spread over the elements that weren't kept would be no pause.
    whole = recording()
    thinned = whole.model_copy(update={"every": 1_024, "times_s": whole.times_s[1_023::1_024]})
    found = find_pauses(thinned, {4: STEP_S / 2, BATCH: STEP_S})

    assert found is not None
    assert found.bridging == planted().bridging
    assert found.replayed[BATCH][1] == pytest.approx(planted().replayed[BATCH][1], rel=0.01)


def test_a_buffer_does_not_help_a_generator_that_is_slower_than_the_step() -> None:
    found = planted(step_s=0.5 * STEP_S)

    assert found.bridging == {}
    assert found.in_words.endswith("a larger prefetch buffer doesn't help")
    assert diagnose(STEP_BOUND, 2.0, found).bottleneck == "step-bound"


@pytest.mark.parametrize(
    "found",
    [
        recording(pauses=1),  # it may come from the host
        recording(flow_s=0.5, pause_s=0.3),  # ordinary trials see it
    ],
)
def test_what_is_not_a_rare_pause_changes_nothing(found: Arrivals) -> None:
    assert find_pauses(found, {BATCH: STEP_S}) is None


def test_two_stalls_of_the_host_do_not_make_a_generator_pause() -> None:
    found = find_pauses(recording(flow_s=12.0, pause_s=0.25), {BATCH: STEP_S})

    assert found is not None
    assert found.bridging == {}


def test_trials_last_from_the_middle_between_two_pauses_to_the_next() -> None:
    rule = planted().stop_rule(StopRule(), BATCH)

    # Beside a small buffer, the step takes 1/0.85 of the time in which the generator makes its rows
    # and pauses, and waits for the pause.
    counted_s = (FLOW_S + PAUSE_S) / 0.85 + PAUSE_S
    assert rule.max_s == pytest.approx(counted_s, rel=1e-2)
    assert rule.min_windows * rule.window_s == pytest.approx(rule.max_s)
    assert rule.startup_s == pytest.approx(rule.max_s / 2)
    assert rule.warmup_max_s / rule.max_s == pytest.approx(2.5)
    # A rule that sees the pauses anyway stays, and so does one that never would.
    assert planted().stop_rule(StopRule(max_s=30.0), BATCH) == StopRule(max_s=30.0)
    rare = planted().model_copy(update={"apart_s": 25.0})
    assert rare.stop_rule(StopRule(), BATCH) == StopRule()
    assert rare.in_words.endswith("too rarely for a trial to see it")


def test_a_pause_is_in_the_middle_of_a_trial() -> None:
    # Planted, on a fake clock: what a trial with a small buffer sees, which waits for each pause.
    pauses = planted()
    rule = pauses.stop_rule(StopRule(), BATCH)
    clock = FakeClock()
    each = round(FLOW_S / ELEMENT_S / BATCH)
    feed = FakeFeed(clock, lambda n, _: PAUSE_S if n and n % each == 0 else 0.0, STEP_S)

    state = measure(feed, rule, clock, clock)

    waited = [window.wait_s > 0.5 * PAUSE_S for window in state.windows]
    assert sum(waited) == 1
    assert not any(waited[:2] + waited[-2:])
    mean = 32 * each / (each * STEP_S + PAUSE_S)
    assert mean_rate(state.windows) == pytest.approx(mean, rel=0.02)


def test_only_buffers_near_the_answer_are_searched() -> None:
    diagnosis = diagnose(STEP_BOUND, 2.0, planted())
    found = offer(NO_MAP, Options(), diagnosis, 2.0)
    first = first_trials(diagnosis, found.space, 2.0, Throughput())
    created = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sampled = {found.space.suggest(created.ask()) for _ in range(200)}

    assert (diagnosis.bottleneck, diagnosis.stage) == ("pauses", "generator")
    assert found.left_out["generator_chunk"] == "the generator's pauses are the bottleneck"
    best = first[0].batch_size
    tried = {int(c.prefetch_buffer) for c in first if c.batch_size == best}
    assert tried == {*near(planted().bridging[best]), planted().bridging[best]}
    for config in {*sampled, *first}:
        low, high = near(planted().bridging[config.batch_size])
        assert low <= int(config.prefetch_buffer) <= high
    for config in first:
        created.enqueue_trial(found.space.params(config))
        assert found.space.suggest(created.ask()) == config


def test_a_batch_size_that_needs_no_buffer_is_searched_as_ever() -> None:
    pauses = planted()
    rates = {**pauses.replayed, 4: dict.fromkeys(pauses.replayed[4], 100.0)}
    diagnosis = diagnose(STEP_BOUND, 2.0, pauses.model_copy(update={"replayed": rates}))
    space = offer(NO_MAP, Options(), diagnosis, 2.0).space
    created = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    buffers = [
        int(config.prefetch_buffer)
        for config in (space.suggest(created.ask()) for _ in range(200))
        if config.batch_size == 4
    ]

    assert space.bridging == {BATCH: 64}
    assert min(buffers) < 8
    assert {int(c.prefetch_buffer) for c in candidates(space) if c.batch_size == 4} == {4, 16}


def test_a_buffer_beyond_the_memory_limit_is_not_asked_for() -> None:
    diagnosis = diagnose(STEP_BOUND, 2.0, planted())
    info = NO_MAP.model_copy(update={"element_bytes": 2**20})

    # Half of what bridges the pauses fits, and nearly nothing into 16 MiB.
    space = offer(info, Options(memory_limit_mib=256.0), diagnosis, 2.0).space
    assert space.bridging == {4: 64, BATCH: 32}
    assert offer(info, Options(memory_limit_mib=16.0), diagnosis, 2.0).space.bridging == {}
