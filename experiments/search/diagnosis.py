"""What limits a pipeline, inferred from the cost of its stages. Pure: costs in, a class out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from objectives.measurement import StageCost, StageCosts

Bottleneck = Literal[
    "generator-gil",
    "element-overhead",
    "blocking",
    "map-cpu",
    "map-gil",
    "shared-cores",
    "step-bound",
]
StageName = Literal["generator", "from_generator", "map", "batch", "step"]

# A Python map that gains less than this from calls in flight is held by the GIL.
SCALES = 1.3
# The step is what limits only where both fit into the cores within this share of its time; more
# would be gained by making batches cheaper.
SHARED = 1.1

IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the generator's own Python, under the GIL",
    "element-overhead": "handing each element from Python to tf.data",
    "blocking": "waiting in the {stage}, with the processor idle",
    "map-cpu": "the map's computing",
    "map-gil": "the map's Python, under the GIL",
    "shared-cores": "the cores, which the training step shares with the making of its batches",
    "step-bound": "the training step; the data is ready before it",
}
ADVICE: dict[Bottleneck, str] = {
    "generator-gil": (
        "Neither prefetch nor more map calls make Python run faster: vectorise the generator, or "
        "run it in several processes."
    ),
    "element-overhead": (
        "Every element costs the same small price, whatever is prefetched: yield several examples "
        "at once and take them apart in tf.data with unbatch or rebatch."
    ),
    "blocking": (
        "The wait can be hidden by waiting for several elements at once: more map calls in "
        "flight for a map, threads or processes for a generator."
    ),
    "map-cpu": (
        "Use more map calls in flight up to the cores there are, then fewer or cheaper ops, or "
        "the same ops on whole batches."
    ),
    "map-gil": (
        "Its calls take turns whatever num_parallel_calls says: write it in TensorFlow ops, or "
        "run it in several processes."
    ),
    "shared-cores": (
        "The step takes longest, but it needs the cores that making batches uses: hand elements "
        "over in blocks and map whole batches, and the step gets that time back."
    ),
    "step-bound": (
        "Nothing to gain from the input pipeline: any prefetch keeps this step busy, so spend "
        "your time on the model."
    ),
}
# Of a PyDataset, where it is to be said otherwise: Keras's arguments are what there is to set.
SEQUENCE_IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the Python of __getitem__, under the GIL",
    "element-overhead": "handing each batch from Python to tf.data",
    "blocking": "waiting in __getitem__, with the processor idle",
}
SEQUENCE_ADVICE: dict[Bottleneck, str] = {
    "generator-gil": (
        "Threads take turns at Python: make the PyDataset with use_multiprocessing=True and about "
        "as many workers as there are cores, or let NumPy do more of the work."
    ),
    "element-overhead": (
        "Every batch is copied into tf.data, whatever its workers do: return smaller arrays, such "
        "as images in uint8, and convert them in the model."
    ),
    "blocking": (
        "Several batches can wait at once: make the PyDataset with more workers, and with a "
        "max_queue_size no smaller than them; threads will do."
    ),
    "shared-cores": (
        "The step takes longest, but it needs the cores that making batches uses: make "
        "__getitem__ cheaper, for more workers would only take more of them."
    ),
}


class Diagnosis(BaseModel):
    """What limits a pipeline.

    Attributes:
        bottleneck: the class; `class` in JSON.
        stage: the stage that it lies in.
        advice: one sentence on what to do about it.
        costs: what it was inferred from.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    bottleneck: Bottleneck = Field(alias="class")
    stage: StageName
    advice: str
    costs: StageCosts

    @property
    def in_words(self) -> str:
        """The bottleneck as the end of a sentence that begins with "limited by"."""
        words = IN_WORDS | SEQUENCE_IN_WORDS if self.costs.sequence else IN_WORDS
        return words[self.bottleneck].format(stage=self.stage)


def stages(costs: StageCosts) -> dict[StageName, StageCost]:
    """The stages that there are, in the order in which an example passes them."""
    found: dict[StageName, StageCost | None] = {
        "generator": costs.generator,
        "from_generator": costs.from_generator,
        "map": costs.map,
        "batch": None if costs.sequence else costs.batch,
        "step": costs.step,
    }
    return {name: cost for name, cost in found.items() if cost is not None}


def producer_s(costs: StageCosts) -> float:
    """Seconds per example of everything before the step, one stage after the other."""
    return sum(cost.wall_s for name, cost in stages(costs).items() if name != "step")


def cores_wanted(costs: StageCosts) -> float:
    """Cores that step and pipeline would keep busy if the step ran as fast as it does alone."""
    cpu_s = sum(cost.cpu_s for cost in stages(costs).values())
    return cpu_s / max(costs.step.wall_s, 1e-12)


def diagnose(costs: StageCosts, cores: float) -> Diagnosis:
    """Names the bottleneck.

    It is the step if all else fits beside it, in time and into the cores; the cores if only the
    time fits; else the costliest stage.
    """
    before = {name: cost for name, cost in stages(costs).items() if name != "step"}
    if costs.step.wall_s >= producer_s(costs):
        if cores_wanted(costs) <= SHARED * cores:
            return _diagnosis("step-bound", "step", costs)
        stage = max(before, key=lambda name: before[name].cpu_s)
        return _diagnosis("shared-cores", stage, costs)
    stage = max(before, key=lambda name: before[name].wall_s)
    waits = before[stage].waits
    if stage in ("generator", "map") and waits:
        return _diagnosis("blocking", stage, costs)
    if stage == "generator":
        return _diagnosis("generator-gil", stage, costs)
    if stage == "map":
        held = costs.map_is_python and costs.map_speedup < SCALES
        return _diagnosis("map-gil" if held else "map-cpu", stage, costs)
    # Batching costs that much only by its elements, too.
    return _diagnosis("element-overhead", stage, costs)


def _diagnosis(bottleneck: Bottleneck, stage: StageName, costs: StageCosts) -> Diagnosis:
    advice = ADVICE | SEQUENCE_ADVICE if costs.sequence else ADVICE
    return Diagnosis(bottleneck=bottleneck, stage=stage, advice=advice[bottleneck], costs=costs)
