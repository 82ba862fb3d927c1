"""Made-up study records to report on: one with everything, and others where much is missing."""

from __future__ import annotations

import random
from collections.abc import Mapping

from prefetch_tuning.experiments.search.diagnosis import diagnose
from prefetch_tuning.experiments.storage.results import (
    MeasuredConfig,
    StudyRecord,
    StudyResult,
    TrialCounts,
    TrialRow,
)
from prefetch_tuning.experiments.verdict.confirmation import Confirmation, conclude
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, NO_PREFETCH, RoundMeasurement
from prefetch_tuning.objectives.measurement import Ceilings, Interval, LimitTerms, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts
from prefetch_tuning.objectives.utilisation import Utilisation
from prefetch_tuning.pipelines.config import PipelineConfig

CORES = 2
BEST = PipelineConfig(batch_size=128, prefetch_buffer=3, map_parallelism=3)
OTHER = PipelineConfig(batch_size=128, prefetch_buffer=17, map_parallelism=6)
CONFIGS = {
    "trial-17": BEST,
    "trial-5": OTHER,
    AUTOTUNE: PipelineConfig.autotune(128),
    NO_PREFETCH: PipelineConfig.no_prefetch(128),
}
INFO = PipelineInfo(
    target="prefetch_tuning.pipelines.builtin.image:ImagePipeline",
    name="image",
    summary="Small images.",
    batch_sizes=[16, 32, 64, 128],
    has_transform=True,
    element="(uint8[32, 32, 3], int32)",
    element_spec="(tf.TensorSpec((32, 32, 3), tf.uint8), tf.TensorSpec((), tf.int32))",
    padded=False,
    element_bytes=12_292,
    device="cpu",
    source_digest="c" * 64,
)
LIMIT = LimitTerms(
    step_examples_per_s=9_100.0,
    step_cores=1.2,
    generator_examples_per_s=47_000.0,
    generator_cpu_s=2e-5,
    map_cpu_s=1.7e-4,
    step_cpu_s=2.4e-4,
    measured_s=2.0,
)
FAILURES = {
    6: TrialFailure(kind="timeout", detail="gave no measurement within 90 s and was killed"),
    13: TrialFailure(kind="generator", detail="KeyError: 'lost | sample'\nin <shard 50>"),
}


def full() -> StudyRecord:
    """24 trials with every state among them, and a confirmation that a tuned configuration won."""
    return _record(INFO, _trials(), _confirmation(1.0), _costs(map_s=170e-6, step_s=95e-6))


def step_bound() -> StudyRecord:
    """The step takes all the time, so nothing beats AUTOTUNE."""
    confirmation = _confirmation(0.915)
    return _record(INFO, _trials(), confirmation, _costs(map_s=20e-6, step_s=260e-6))


def nothing() -> StudyRecord:
    """No map, no diagnosis, no confirmation, and every trial failed."""
    info = INFO.model_copy(update={"name": "lost", "has_transform": False})
    failure = TrialFailure(kind="crash", detail="ended by signal 11 (SIGSEGV)")
    config = PipelineConfig(batch_size=16, prefetch_buffer=2, map_parallelism=1)
    rows = [TrialRow(number=n, config=config, state="failed", failure=failure) for n in range(3)]
    empty = Confirmation(candidates=[], speedup=None, recommended=None)
    return _record(info, rows, empty, None, importance={})


def unconfirmed() -> StudyRecord:
    """A search without a confirmation."""
    empty = Confirmation(candidates=[], speedup=None, recommended=None)
    return _record(INFO, _trials(), empty, None)


def by_target(
    target: float = 0.9,
    autotune: float = 0.3,
    tuned: float = 0.97,
    cpu_us: Mapping[str, float] | None = None,
    terms: Mapping[str, float] | None = None,
) -> StudyRecord:
    """A study that keeps an emulated H100 busy; shares of the time in which each candidate does.

    `terms` replaces terms of the limit.
    """
    step = 1_000.0
    info = INFO.model_copy(
        update={
            "target": f"{INFO.target},step=1ms/example@resnet50-h100",
            "stand_in": "an emulated step on resnet50-h100: 1 ms per example",
            "device": "emulated",
        }
    )
    busy = {"trial-17": tuned, "trial-5": tuned - 0.02, AUTOTUNE: autotune, NO_PREFETCH: 0.2}
    used = {"trial-17": 1_300.0, "trial-5": 1_500.0, AUTOTUNE: 2_100.0, NO_PREFETCH: 1_400.0}
    peaks = {"trial-17": 120.0, "trial-5": 95.0, AUTOTUNE: 400.0, NO_PREFETCH: 61.0}
    rng = random.Random(5)
    rounds = [
        {
            name: RoundMeasurement(
                examples_per_s=share * step * rng.uniform(0.99, 1.01),
                host_peak_mib=peaks[name],
                device_peak_mib=None,
                cpu_s_per_example={**used, **(cpu_us or {})}[name] / 1e6,
                host_wait_fraction=0.1,
                ceilings=None,
                mlflow_run_id=f"round-{index}-{name}",
            )
            for name, share in busy.items()
        }
        for index in range(9)
    ]
    limit = LIMIT.model_copy(update={"step_examples_per_s": step, **(terms or {})})
    found = conclude(
        CONFIGS,
        rounds,
        cores=CORES,
        tolerance=0.02,
        limits=[limit] * len(rounds),
        goal=Utilisation(target),
    )
    record = _record(info, _trials(), found, _costs(map_s=170e-6, step_s=1e-3))
    baselines = {c.candidate: c for c in found.candidates if c.candidate in (AUTOTUNE, NO_PREFETCH)}
    judged = {"objective": "utilisation", "target": target, "baselines": baselines}
    return record.model_copy(update={"result": record.result.model_copy(update=judged)})


def hostile(text: str) -> StudyRecord:
    """The full record with `text` wherever a user's own words can be."""
    record = full()
    info = record.info.model_copy(update={"name": text, "target": text, "element": text})
    failure = TrialFailure(kind="generator", detail=text)
    rows = [r.model_copy(update={"failure": failure}) if r.failure else r for r in record.trials]
    result = record.result.model_copy(update={"pipeline": text, "study": text})
    return record.model_copy(
        update={
            "info": info,
            "trials": rows,
            "result": result,
            "host": text,
            "versions": {"x": text},
        }
    )


def measured(config: PipelineConfig, rate: float, peak_mib: float) -> MeasuredConfig:
    """A trial's summary with an interval of 5% either way."""
    return MeasuredConfig(
        config=config,
        examples_per_s=rate,
        ci=Interval(low=0.95 * rate, high=1.05 * rate),
        host_peak_mib=peak_mib,
        device_peak_mib=None,
        host_speed_index=1.0,
        measured_s=2.5,
        mlflow_run_id="f" * 32,
    )


def _record(
    info: PipelineInfo,
    rows: list[TrialRow],
    confirmation: Confirmation,
    costs: StageCosts | None,
    importance: Mapping[str, float] | None = None,
) -> StudyRecord:
    complete = [r.measured for r in rows if r.measured and r.state == "complete"]
    recommended = confirmation.recommended
    winner = confirmation.find(recommended.candidate) if recommended else None
    result = StudyResult(
        pipeline=info.name,
        device="cpu",
        study=f"{info.name}-20261122-185305",
        mlflow_run_id="0123456789abcdef" * 2,
        trials=TrialCounts.model_validate(
            {s: sum(r.state == s for r in rows) for s in TrialCounts.model_fields}
        ),
        baselines={},
        best=max(complete, key=lambda m: m.examples_per_s, default=None),
        diagnosis=diagnose(costs, CORES) if costs else None,
        limit=confirmation.limit,
        fraction=winner.fraction if winner else None,
        utilisation=winner.utilisation if winner else None,
        data_checked=True if recommended else None,
        confirmation=confirmation.candidates,
        speedup=confirmation.speedup,
        recommended=recommended,
        measured_s=148.0,
        wall_s=187.0,
    )
    if importance is None:
        importance = {"batch_size": 0.17, "prefetch_buffer": 0.05, "map_parallelism": 0.78}
    versions = {"python": "3.11.2", "tensorflow": "2.21.0", "keras": "3.12.0"}
    host = "2 x AMD EPYC 7B13, 8 GiB"
    return StudyRecord(
        result=result,
        info=info,
        host=host,
        versions=versions,
        seed=0,
        trials=rows,
        importance=dict(importance),
    )


def _trials() -> list[TrialRow]:
    rng = random.Random(7)
    rows = []
    for number in range(24):
        config = PipelineConfig(
            batch_size=rng.choice(INFO.batch_sizes),
            prefetch_buffer=round(2 ** rng.uniform(0, 6)),
            map_parallelism=round(2 ** rng.uniform(0, 3)),
        )
        rows.append(_trial(number, BEST if number == 17 else config, rng))
    return rows


def _trial(number: int, config: PipelineConfig, rng: random.Random) -> TrialRow:
    calls, buffer = int(config.map_parallelism), int(config.prefetch_buffer)
    predicted = 2_300.0 + 1_050.0 * (calls > 1) + 1.5 * config.batch_size
    rate = predicted * rng.uniform(0.9, 1.08) * (1.0 if number != 17 else 1.04)
    peak = 60.0 + 0.012 * config.batch_size * (buffer + calls)
    failure = FAILURES.get(number)
    pruned = rate < 3_390 and number > 7
    state = (
        "failed" if failure else "pruned" if pruned else "infeasible" if peak > 115 else "complete"
    )
    return TrialRow.model_validate(
        {
            "number": number,
            "config": config,
            "state": state,
            "measured": None if failure else measured(config, rate, peak),
            "failure": failure,
            "predicted_examples_per_s": predicted,
            "warm_start": number < 5,
        }
    )


def _confirmation(gain: float) -> Confirmation:
    """Nine rounds in which the tuned candidates' rates are multiplied by `gain`."""
    rng = random.Random(11)
    rates = {
        "trial-17": 3_710 * gain,
        "trial-5": 3_640 * gain,
        AUTOTUNE: 3_401.0,
        NO_PREFETCH: 2_495.0,
    }
    peaks = {"trial-17": 69.0, "trial-5": 95.0, AUTOTUNE: 101.0, NO_PREFETCH: 61.0}
    rounds = []
    for index in range(9):
        host = rng.uniform(0.94, 1.06)
        rounds.append(
            {
                name: RoundMeasurement(
                    examples_per_s=rate * host * rng.uniform(0.97, 1.03),
                    host_peak_mib=peaks[name],
                    device_peak_mib=None,
                    cpu_s_per_example=CORES / 4_600.0,
                    host_wait_fraction=0.62,
                    ceilings=Ceilings(producer_only=rate * 1.12, measured_s=1.5),
                    mlflow_run_id=f"round-{index}-{name}",
                )
                for name, rate in rates.items()
            }
        )
    return conclude(CONFIGS, rounds, cores=CORES, tolerance=0.03, limits=[LIMIT] * len(rounds))


def _costs(map_s: float, step_s: float) -> StageCosts:
    return StageCosts(
        generator=StageCost(wall_s=21e-6, cpu_s=21e-6),
        from_generator=StageCost(wall_s=58e-6, cpu_s=66e-6),
        map=StageCost(wall_s=map_s, cpu_s=1.1 * map_s),
        batch=StageCost(wall_s=4e-6, cpu_s=4e-6),
        step=StageCost(wall_s=step_s, cpu_s=1.6 * step_s),
        batch_size=128,
        step_s={16: 0.004, 128: 128 * step_s},
        map_speedup=1.8,
        map_calls=4,
        map_is_python=False,
        loops=[],
    )
