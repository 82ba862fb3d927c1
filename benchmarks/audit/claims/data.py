"""Checks that other data are noticed: shards that are copies, and shards that share the work."""

from __future__ import annotations

from benchmarks.audit.access import NotMeasuredError
from benchmarks.audit.ground import PLANTED, AuditBench
from benchmarks.audit.judging import Line, State
from benchmarks.audit.parts import part
from prefetch_tuning.experiments.verdict.measurements import common_batches, same_batches
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import PipelineConfig

COPIED_SHARDS = "benchmarks.audit.claims.known:CopiedShards"
PROCESSES, READ_S = 4, 20.0


@part("same_data")
def same_data(bench: AuditBench) -> list[Line]:
    """Checks that the digests of a round tell copied shards from shards that share the work."""
    return [
        _line(bench, COPIED_SHARDS, "four processes that each make every element", expected=False),
        _line(
            bench,
            PLANTED["blocking_generator"],
            "four processes that share the elements",
            expected=True,
        ),
    ]


def _line(bench: AuditBench, target: str, planted: str, *, expected: bool) -> Line:
    size = max(bench.runner.inspect(target, bench.seed, "auto").batch_sizes)
    plain = PipelineConfig.no_prefetch(size)
    shared = plain.model_copy(update={"generator_workers": PROCESSES, "generator_chunk": size})
    count = batches_to_check(shared)
    truth = common_batches(_read(bench, target, plain, count), _read(bench, target, plain, count))
    found = truth is not None and same_batches(truth, _read(bench, target, shared, count))
    state: State = "holds" if truth is not None and found == expected else "fails"
    words = {True: "the plain chain's data", False: "other data"}
    return Line(
        name=f"data, {target.partition(':')[2]}",
        planted=planted,
        expected=words[expected],
        measured="two runs of the plain chain differ" if truth is None else words[found],
        state=state,
    )


def _read(bench: AuditBench, target: str, config: PipelineConfig, count: int) -> list[str]:
    spec = TrialSpec(pipeline=target, config=config, seed=bench.seed, digest_batches=count)
    found = bench.runner.read_data(spec, READ_S)
    if isinstance(found, TrialFailure):
        raise NotMeasuredError(f"{target}: {found.kind}: {found.detail}")
    return found
