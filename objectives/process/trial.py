"""Measures one configuration in this process."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import keras

from prefetch_tuning.objectives.checks.elements import first_elements
from prefetch_tuning.objectives.checks.inspection import first_batch
from prefetch_tuning.objectives.digest import digest, short_digest
from prefetch_tuning.objectives.loop import steady_state
from prefetch_tuning.objectives.loop.buffers import buffer_mib, ready_batches
from prefetch_tuning.objectives.loop.ceilings import drain, measure_ceilings
from prefetch_tuning.objectives.loop.emulated import feed_of
from prefetch_tuning.objectives.loop.passes import NO_PASS, FirstPass
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.loop.warm_up import UNREADABLE
from prefetch_tuning.objectives.loop.windows import interval, mean_rate, percentiles_ms
from prefetch_tuning.objectives.machine.device import (
    device_peak_mib,
    reset_device_peak,
    select_device_for,
)
from prefetch_tuning.objectives.machine.process_tree import ProcessTree
from prefetch_tuning.objectives.measurement import (
    AutotuneNode,
    Digest,
    FailureKind,
    Interval,
    Measurement,
    TrialFailure,
)
from prefetch_tuning.objectives.process.failures import failure_of
from prefetch_tuning.objectives.spec import TrialSpec
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.chain.build import build_dataset, sample_batch, with_options
from prefetch_tuning.pipelines.chain.declared import ChainPipeline, epochs
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.chain.transformations import has
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import (
    BatchesPipeline,
    GeneratorPipeline,
    Pipeline,
)

# Elements that the digest covers, and that the batch for tracing the step is made of.
FIRST_ELEMENTS = 4
# From this share of waiting on, buffers count as empty.
MOSTLY_WAITS = 0.5
# Most batches to look for if AUTOTUNE doesn't show how many can be ready. A chain that is faster
# than the step never runs out.
UNREAD_BATCHES = 64
# Longest time to look for them. AUTOTUNE's buffers once took five seconds.
MOST_DRAINING_S = 1.0

# Longest first pass to fill a cache with.
MOST_PASS_S = 30.0


class Trial:
    """One configuration, measured in this process; `stage` and `source` tell which part failed."""

    def __init__(self, spec: TrialSpec) -> None:
        self.spec = spec
        self.stage: FailureKind = "usage"
        self.device = "cpu"
        self.source: SourceMonitor | None = None
        # What must live until the process exits: deleting an iterator waits for AUTOTUNE's thread,
        # whose sleeps grow to seconds.
        self._kept: Any = None

    def run(self) -> Measurement:
        """Builds, traces, starts the iterator and measures; `steady_state` has the rules."""
        spec, tree = self.spec, ProcessTree()
        device = self.device = select_device_for(spec.pipeline, spec.device)
        keras.utils.set_random_seed(spec.seed)
        pipeline = catalog.load(spec.pipeline)
        self.stage = "transform"
        source, elements, traced = self._first(pipeline)
        dataset = build_dataset(pipeline, spec.config, seed=spec.seed, source=source)
        if isinstance(pipeline, ChainPipeline):
            source = pipeline.sources[-1]
        self.stage = "model"
        model = pipeline.build_model()
        feed = self._kept = feed_of(model, dataset, autotuned=spec.config.is_autotune)
        feed.trace(traced, taking=spec.ceilings)
        reset_device_peak(device)
        tree.begin_memory()
        tree.others = source.other_pids if source else []
        tree.look()  # what others used before isn't this trial's

        # A user's own chain has no source to watch. It is mostly a generator, so it fails as one.
        self.stage, self.source = "transform" if source else "generator", source
        skipped_before = source.skipped_elements if source else 0
        first = self._pass(pipeline, feed, source, tree)
        begin = time.perf_counter()
        feed.start()
        each_batch = feed.take_first(spec.digest_batches)
        first_s = time.perf_counter() - begin
        tree.look()  # processes that began with the first batch
        state = steady_state.measure(
            feed, spec.stop, time.perf_counter, tree.cpu_s, spec.best_examples_per_s
        )
        tree.look()
        peak_mib = tree.peak_mib
        restarts = source.starts - 1 if source else 0
        skipped = source.skipped_elements - skipped_before if source else 0

        examples = sum(window.examples for window in state.windows)
        seconds = sum(window.seconds for window in state.windows)
        p50_ms, p95_ms = percentiles_ms(state.step_s)
        nodes = [AutotuneNode(**node) for node in feed.autotune_nodes()]
        device_peak = device_peak_mib(device)
        unreadable = feed.choices() == UNREADABLE
        full = None if unreadable else buffer_mib(spec.config, feed.first_batches[0], nodes)
        wait_fraction = sum(window.wait_s for window in state.windows) / seconds
        most = UNREAD_BATCHES if unreadable else ready_batches(spec.config, nodes)
        ready = 0
        if wait_fraction < MOSTLY_WAITS and (spec.ceilings or not unreadable):
            ready = self._drained(feed, most, seconds / state.steps)
        rate, ci = mean_rate(state.windows), interval(state.windows)
        passes = passes_of(pipeline, first, spec)
        share = first.mean_rate(rate, passes) / rate
        ceilings = None
        if spec.ceilings:  # last, so that it counts towards neither memory peak
            ceilings = measure_ceilings(feed, spec.stop)
        return Measurement(
            examples_per_s=share * rate,
            ci=Interval(low=share * ci.low, high=share * ci.high),
            steps_per_s=share * state.steps / seconds,
            host_wait_fraction=wait_fraction,
            step_p50_ms=p50_ms,
            step_p95_ms=p95_ms,
            cpu_seconds_per_1k_examples=1_000.0 * first.mean_cpu_s(state.cpu_s / examples, passes),
            cpu_utilisation=state.cpu_s / (seconds * usable_cores()),
            first_batch_s=feed.first_batch_s,
            first_pass_s=None if first is NO_PASS else first.seconds,
            host_peak_mib=with_full_buffers(peak_mib, full or 0.0, ready / max(most, 1)),
            memory_resets=tree.resets,
            device_peak_mib=device_peak,
            buffer_mib=full,
            windows=state.windows,
            startup_s=first_s + state.startup_s,
            stopped=state.stopped,
            settled=state.settled,
            device=device,
            generator_restarts=restarts,
            skipped_elements=skipped,
            loss=feed.loss,
            digest=Digest(
                elements=digest(elements),
                batches="" if spec.config.reorder else digest(feed.first_batches),
                each_batch=[] if spec.config.reorder else first.digests or each_batch,
            ),
            autotune=nodes,
            ceilings=ceilings,
        )

    def _pass(
        self,
        pipeline: Pipeline,
        feed: TrainingFeed,
        source: SourceMonitor | None,
        tree: ProcessTree,
    ) -> FirstPass:
        """The pass that fills a cache; `NO_PASS` without one."""
        needs_a_pass = isinstance(pipeline, BatchesPipeline) and pipeline.needs_a_pass
        if source is None or not (needs_a_pass or self.spec.config.cache):
            return NO_PASS
        before_s, count = tree.cpu_s(), self.spec.digest_batches
        chain = pipeline.chain if isinstance(pipeline, ChainPipeline) else ()
        # Some stages, like a filter, hide from tf.data that a dataset is endless.
        repeats = not chain or has(chain, "repeat")
        first = feed.pass_once(MOST_PASS_S, lambda: source.ends > 0, count, repeats=repeats)
        # A shuffle mixes the passes of a chain that repeats, so the first one has no clear end.
        is_clear = not (repeats and has(chain, "shuffle"))
        used_s = tree.cpu_s() - before_s
        return replace(first, cpu_s=used_s, whole=first.whole and is_clear)

    def _drained(self, feed: TrainingFeed, most: int, batch_s: float) -> int:
        """Takes the batches that are ready; returns how many were."""
        if self.spec.ceilings:  # which must begin with empty buffers
            return drain(feed.take_only, most, batch_s, time.perf_counter)
        try:
            return drain(feed.next_batch, most, batch_s, time.perf_counter, MOST_DRAINING_S)
        except Exception:
            return 0  # the generator failed after everything was measured

    def read(self, most_s: float, stages: int | None = None) -> list[str]:
        """Reads the first batches without a model or a step; returns the digest of each.

        Reads `spec.digest_batches` batches, or fewer: no batch begins after `most_s` seconds. With
        `stages`, it reads behind that many transformations of a declared chain.
        """
        spec, end = self.spec, time.perf_counter() + most_s
        select_device_for(spec.pipeline, spec.device)
        keras.utils.set_random_seed(spec.seed)
        pipeline = catalog.load(spec.pipeline)
        self.stage = "generator"
        if not isinstance(pipeline, BatchesPipeline):
            self.source = _source(pipeline, spec)
            self.stage = "transform"
        else:
            # A trial also takes a batch before those that it measures, and a generator that keeps
            # its state between runs yields others then.
            first_batch(pipeline, spec.config.batch_size, spec.seed)
        digests: list[str] = []
        if isinstance(pipeline, ChainPipeline) and stages is not None:
            dataset = pipeline.beginning(spec.config, spec.seed, stages)
            dataset = with_options(dataset, spec.config)
        else:
            dataset = build_dataset(pipeline, spec.config, seed=spec.seed, source=self.source)
        batches = self._kept = epochs(dataset)
        for batch in batches:
            digests.append(short_digest(batch))
            if len(digests) == spec.digest_batches or time.perf_counter() > end:
                break
        return digests

    def _first(self, pipeline: Pipeline) -> tuple[SourceMonitor | None, list[Any], Any]:
        """The watched source, the first elements for the digest, and a batch to trace on."""
        spec = self.spec
        if isinstance(pipeline, BatchesPipeline):
            batch = first_batch(pipeline, spec.config.batch_size, spec.seed)
            return None, [batch], batch
        # Before TensorFlow runs anything: forked processes would lack its threads.
        source = _source(pipeline, spec)
        elements = first_elements(pipeline, spec.seed, FIRST_ELEMENTS)
        return source, elements, sample_batch(pipeline, elements, spec.config.batch_size)

    def failure(self, error: Exception) -> TrialFailure:
        """What went wrong; see `failure_of`."""
        cause = self.source.error if self.source and self.source.error else None
        return failure_of(error, self.stage, cause, self.device)


def passes_of(pipeline: Pipeline, first: FirstPass, spec: TrialSpec) -> float | None:
    """How many passes over its data a training makes; None if that is unknown."""
    if not isinstance(pipeline, BatchesPipeline):
        return None
    if pipeline.trained_steps is None:
        return pipeline.epochs
    return pipeline.trained_steps * spec.config.batch_size / max(first.examples, 1)


def with_full_buffers(peak_mib: float, full_mib: float, ready: float) -> float:
    """The peak in training, which fills buffers that a trial has no time to fill.

    Args:
        peak_mib: the trial's peak, less what the process had before.
        full_mib: what the full buffers hold.
        ready: share of the buffers that was full at the trial's end.
    """
    # Some of what the process had before may have been freed, so the peak may be too small.
    return max(peak_mib + full_mib * (1.0 - ready), full_mib)


def _source(pipeline: GeneratorPipeline, spec: TrialSpec) -> SourceMonitor:
    """The generator, started before TensorFlow has run anything, so that it may fork."""
    cluster = spec.generator_cluster
    return SourceMonitor(pipeline, spec.seed, spec.config, start_method="fork", cluster=cluster)
