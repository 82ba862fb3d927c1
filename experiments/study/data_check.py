"""Compares each candidate's data with the plain chain's, and excludes those with other data."""

from __future__ import annotations

import os

from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.verdict.measurements import (
    AS_WRITTEN,
    AUTOTUNE,
    PlainData,
    RoundMeasurement,
    comes_from,
    common_batches,
    same_batches,
)
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.stage_costs import WAITING_CALLS
from prefetch_tuning.pipelines.chain.blocks import batches_to_check
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# Seconds per reading. A slow plain chain is compared only on the batches that it makes in them.
READ_PLAIN_S = 6.0
# Elements, or batches, that are compared where whole batches can't be.
ELEMENTS = 64
# What users run today, as a message names it.
OWN = {AUTOTUNE: "AUTOTUNE's", AS_WRITTEN: "the script's"}


class DataCheck:
    """Reads the plain chain's first batches and compares the candidates' with them.

    Attributes:
        problems: a line for each candidate with other data, and one if the check is off.
        readmits: whether candidates that an earlier confirmation excluded count again.
    """

    def __init__(self, study: PipelineStudy, problems: list[str]) -> None:
        self._study = study
        self._kept = study.kept
        self._name = study.info.name
        self.problems = problems
        self.readmits = False

    def begin(self) -> None:
        """Reads the plain chain, once per confirmation, and compares what no round can compare."""
        if self._kept.data is not None:
            return
        data = self.read_plain_data()
        if not data.checked:
            self.problems.append(f"{self._name}: {data.why_not}")
        elif data.stages is not None:
            self._compare_before_random(data.each_batch, data.stages)
        if data.checked and self._kept.data is None:
            data = data.model_copy(update={"uncompared": self._compare_reordered()})
        if self._kept.data is None:  # last, so that an interrupted comparison begins anew
            self._kept.data = data

    def compare(self, name: str, measured: RoundMeasurement) -> None:
        """Compares the batches of a candidate in a round."""
        data = self._kept.data
        if data is None or not data.checked or name in self._kept.other_data:
            return
        if data.stages is not None or self._kept.candidates[name].reorder:
            return  # they are compared in another way, once
        if not same_batches(data.each_batch, measured.each_batch):
            self._differs(name)

    def read_plain_data(self) -> PlainData:
        """Reads the plain chain's first batches, as many as the check of any candidate needs.

        They are read twice, the second time with AUTOTUNE: AUTOTUNE is what users run today, so it
        must not be excluded for its data. If the readings differ or one fails, nothing is checked.
        """
        configs = self._kept.candidates.values()
        batches = max(batches_to_check(config) for config in configs)
        readings: list[list[str]] = []
        for config in (self._plain, PipelineConfig.autotune(self._size, **self._study.info.own)):
            found = self._read(config, batches)
            if isinstance(found, TrialFailure):
                return PlainData(why_not=f"the data is not checked: {found.detail}")
            readings.append(found)
        each_batch = common_batches(*readings)
        if each_batch is not None:
            return PlainData(each_batch=each_batch)
        stages = self._study.info.random_stage
        if stages is not None:
            before = self._read(self._plain, ELEMENTS, stages)
            if not isinstance(before, TrialFailure):
                return PlainData(each_batch=before, stages=stages)
        return PlainData(
            why_not=(
                "the data is not checked: two runs of the plain chain, one of them with "
                "AUTOTUNE, already differ"
            )
        )

    def _compare_before_random(self, plain: list[str], stages: int) -> None:
        """Compares every candidate's chain up to its first map that draws random numbers."""
        for name, config in self._kept.candidates.items():
            if config.reorder:
                continue
            found = self._read(config, ELEMENTS, stages)
            if isinstance(found, TrialFailure) or same_batches(plain, found):
                continue
            self._differs(name)
            if name in OWN:
                return

    def _compare_reordered(self) -> list[str]:
        """Compares the elements of those candidates whose order may differ.

        Returns the names of those that could not be compared.
        """
        reordered = {name: c for name, c in self._kept.candidates.items() if c.reorder}
        if not reordered:
            return []
        most = max(calls_ahead(config) for config in reordered.values())
        wanted = {
            name: max(batches_to_check(_one_by_one(config)), ELEMENTS)
            for name, config in reordered.items()
        }
        # Parallel, because a sequential map that waits would take too long, but in order.
        parallel = {"map_parallelism": most, "thread_pool_size": UNBOUNDED}
        reference = self._plain.model_copy(update=parallel)
        plain = self._read_elements(reference, max(wanted.values()) + most * self._maps)
        uncompared = []
        for name, config in reordered.items():
            found = self._read_elements(config, wanted[name])
            same = None
            if not isinstance(plain, TrialFailure) and not isinstance(found, TrialFailure):
                same = comes_from(plain, found, calls_ahead(config) * self._maps)
            if same is None:
                self.problems.append(f"{self._name}: the elements of {name} could not be compared")
                uncompared.append(name)
            elif not same:
                self._differs(name)
        return uncompared

    def _read_elements(self, config: PipelineConfig, count: int) -> list[str] | TrialFailure:
        """Reads single elements, behind the maps whose calls may overtake each other."""
        info = self._study.info
        if info.unordered_stage is None:
            return self._read(_one_by_one(config), count)
        ends = (info.unordered_stage, info.random_stage)
        return self._read(config, count, min(end for end in ends if end is not None))

    def _read(
        self, config: PipelineConfig, count: int, stages: int | None = None
    ) -> list[str] | TrialFailure:
        spec = self._study.spec(config).model_copy(update={"digest_batches": count})
        return self._study.runner.read_data(spec, READ_PLAIN_S, stages)

    @property
    def _size(self) -> int:
        return next(iter(self._kept.candidates.values())).batch_size

    @property
    def _plain(self) -> PipelineConfig:
        plain = PipelineConfig.no_prefetch(self._size)
        return plain.model_copy(update=dict(self._study.info.own))

    @property
    def _maps(self) -> int:
        """How many maps have calls that can overtake each other."""
        return self._study.info.unordered_maps

    def _differs(self, name: str) -> None:
        """Excludes a candidate for its data, or ends the check."""
        if name in OWN:
            # This is what users run today. If its data differs from run to run, so may that of any
            # other candidate.
            why_not = f"the data is not checked: {OWN[name]} own data differs from run to run"
            self._kept.data = PlainData(why_not=why_not)
            self.readmits = bool(self._kept.excluded_with_best)
            self._kept.take_back_other_data()
            self.problems.append(f"{self._name}: {why_not}")
            return
        if name not in self._kept.other_data:
            self._kept.mark_other_data(name)
        config = self._kept.candidates[name]
        self.problems.append(
            f"{self._name}: {name} ({config}) reads different data from the plain chain, so it is "
            f"excluded; {what_to_check(config)}"
        )


def calls_ahead(config: PipelineConfig) -> int:
    """The most calls of one map that are in flight."""
    if not config.is_autotune:
        return int(config.map_parallelism)
    # AUTOTUNE takes at most as many as its pool has threads.
    pool = config.thread_pool_size
    return max(pool if isinstance(pool, int) else WAITING_CALLS, os.cpu_count() or 1)


def what_to_check(config: PipelineConfig) -> str:
    """The most probable reason for other data."""
    if config.generator_workers:
        return "check how generate uses shard_index and shard_count"
    return "check whether its data depends on the order in which threads run"


def _one_by_one(config: PipelineConfig) -> PipelineConfig:
    """The configuration with batches of one, which hold single elements without padding."""
    return config.model_copy(update={"batch_size": 1})
