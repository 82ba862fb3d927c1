"""What limits a pipeline, inferred from the cost of its stages. Pure: costs in, a class out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts

Bottleneck = Literal[
    "generator-gil",
    "element-overhead",
    "blocking",
    "map-cpu",
    "map-gil",
    "shared-cores",
    "device-copy",
    "step-bound",
]
StageName = Literal["generator", "from_generator", "map", "batch", "device_copy", "step"]
# What a stage is called where its name would not say it.
SHOWN: dict[StageName, str] = {"device_copy": "copy to the device"}

# A Python map that gains less than this from calls in flight is held by the GIL.
SCALES = 1.3
# The step is what limits only where both fit into the cores within this share of its time; more
# would be gained by making batches cheaper.
SHARED = 1.1
# A copy to the device of less than this share of the step's time leaves the step what limits.
DELAYS = 0.1

IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the generator's own Python, under the GIL",
    "element-overhead": "handing each element from Python to tf.data",
    "blocking": "waiting in the {stage}, with the processor idle",
    "map-cpu": "the map's computing",
    "map-gil": "the map's Python, under the GIL",
    "shared-cores": "the cores, which the training step shares with the making of its batches",
    "device-copy": "the copy of each batch from host memory to the device",
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
    "device-copy": (
        "Copy less: keep elements in uint8 on the host and cast them in the model. And copy ahead: "
        "device_prefetch has the next batches copied while a step runs."
    ),
    "step-bound": (
        "Nothing to gain from the input pipeline: any prefetch keeps this step busy, so spend "
        "your time on the model."
    ),
}
# Of a PyDataset, where it is to be said otherwise: Keras's arguments are what there is to set.
PY_DATASET_IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the Python of __getitem__, under the GIL",
    "element-overhead": "handing each batch from Python to tf.data",
    "blocking": "waiting in __getitem__, with the processor idle",
}
PY_DATASET_ADVICE: dict[Bottleneck, str] = {
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
    "device-copy": (
        "Copy less: return smaller arrays, such as images in uint8, and convert them in the model."
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
        words = IN_WORDS | PY_DATASET_IN_WORDS if self.costs.py_dataset else IN_WORDS
        return words[self.bottleneck].format(stage=self.stage)


def stages(costs: StageCosts) -> dict[StageName, StageCost]:
    """The stages that there are, in the order in which an example passes them."""
    found: dict[StageName, StageCost | None] = {
        "generator": costs.generator,
        "from_generator": costs.from_generator,
        "map": costs.map,
        "batch": None if costs.py_dataset else costs.batch,
        "device_copy": costs.device_copy,
        "step": costs.step,
    }
    return {name: cost for name, cost in found.items() if cost is not None}


def producer_s(costs: StageCosts) -> float:
    """Seconds per example of everything up to the batch in host memory, one after the other."""
    after = ("device_copy", "step")
    return sum(cost.wall_s for name, cost in stages(costs).items() if name not in after)


def copy_share(costs: StageCosts) -> float:
    """Time of the copy to the device as a share of the step's; 0 where there is none."""
    return _copy_s(costs) / max(costs.step.wall_s, 1e-12)


def _copy_s(costs: StageCosts) -> float:
    return costs.device_copy.wall_s if costs.device_copy else 0.0


def cores_wanted(costs: StageCosts) -> float:
    """Cores that step and pipeline would keep busy if the step ran as fast as it does alone.

    Where the copy to the device takes longer than the step, as fast as that.
    """
    cpu_s = sum(cost.cpu_s for cost in stages(costs).values())
    return cpu_s / max(costs.step.wall_s, _copy_s(costs), 1e-12)


def diagnose(costs: StageCosts, cores: float) -> Diagnosis:
    """Names the bottleneck.

    It is the step if all else fits beside it, in time and into the cores; the cores if only the
    time fits; else the costliest stage. A copy to the device does not fit beside the step: unless
    batches are copied ahead, the step waits for it.
    """
    before = {name: cost for name, cost in stages(costs).items() if name != "step"}
    if costs.step.wall_s + _copy_s(costs) >= producer_s(costs):
        if cores_wanted(costs) > SHARED * cores:
            stage = max(before, key=lambda name: before[name].cpu_s)
            return _diagnosis("shared-cores", stage, costs)
        if copy_share(costs) >= DELAYS:
            return _diagnosis("device-copy", "device_copy", costs)
        return _diagnosis("step-bound", "step", costs)
    # Making a batch takes longer than copying it and the step: cheaper copies would change nothing.
    made = {name: cost for name, cost in before.items() if name != "device_copy"}
    limiting = max(made, key=lambda name: made[name].wall_s)
    return _diagnosis(_in_stage(limiting, costs, waits=made[limiting].waits), limiting, costs)


def _in_stage(stage: StageName, costs: StageCosts, *, waits: bool) -> Bottleneck:
    """What limits where this stage is the costliest one before the step."""
    if stage in ("generator", "map") and waits:
        return "blocking"
    if stage == "generator":
        return "generator-gil"
    if stage == "map":
        held = costs.map_is_python and costs.map_speedup < SCALES
        return "map-gil" if held else "map-cpu"
    # Batching costs that much only by its elements, too.
    return "element-overhead"


def _diagnosis(bottleneck: Bottleneck, stage: StageName, costs: StageCosts) -> Diagnosis:
    advice = ADVICE | PY_DATASET_ADVICE if costs.py_dataset else ADVICE
    return Diagnosis(bottleneck=bottleneck, stage=stage, advice=advice[bottleneck], costs=costs)
