"""Infers what limits a pipeline from the costs of its stages. Pure: costs in, a class out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from prefetch_tuning.experiments.search.pauses import Pauses
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts

Bottleneck = Literal[
    "generator-gil",
    "element-overhead",
    "blocking",
    "map-cpu",
    "map-gil",
    "shared-cores",
    "device-copy",
    "pauses",
    "step-bound",
]
StageName = Literal["generator", "from_generator", "map", "batch", "device_copy", "step"]
# How a stage is shown where its name isn't clear enough.
SHOWN: dict[StageName, str] = {"device_copy": "copy to the device"}

# A Python map that calls in flight make less than this many times faster is held up by the GIL.
SCALES = 1.3
# The step is the bottleneck only if it and the pipeline together want at most this many times the
# cores there are. Otherwise cheaper batches would gain more.
SHARED = 1.1
# If the copy to the device takes less than this share of the step's time, the step is the limit.
DELAYS = 0.1

IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the generator's Python code, under the GIL",
    "element-overhead": "the overhead of handing each element from Python to tf.data",
    "blocking": "waiting in the {stage} while the CPU is idle",
    "map-cpu": "the map's computation",
    "map-gil": "the map's Python code, under the GIL",
    "shared-cores": "the cores, which the training step shares with the input pipeline",
    "device-copy": "the copy of each batch from host memory to the device",
    "pauses": "the generator's pauses, which small buffers don't bridge",
    "step-bound": "the training step; each batch is ready before the step needs it",
}
ADVICE: dict[Bottleneck, str] = {
    "generator-gil": (
        "Prefetch and more map calls don't make Python run faster. Vectorise the generator, or "
        "run it in several processes."
    ),
    "element-overhead": (
        "Every element has the same small overhead, and prefetch doesn't reduce it. Yield several "
        "examples at once and split them in tf.data with unbatch or rebatch."
    ),
    "blocking": (
        "Hide the wait by waiting for several elements at once: use more calls in flight, with "
        "threads, for a map, and processes for a generator."
    ),
    "map-cpu": (
        "Use more map calls in flight, up to the number of cores. Then use fewer or cheaper ops, "
        "or run the same ops on whole batches."
    ),
    "map-gil": (
        "The map's calls run one after another even with num_parallel_calls. Write the map in "
        "TensorFlow ops, or do its work in a generator that runs in several processes."
    ),
    "shared-cores": (
        "The step takes longest, but it needs the cores that the input pipeline uses. Hand "
        "elements to tf.data in blocks and map whole batches, so the step gets that time back."
    ),
    "device-copy": (
        "Copy less: keep elements in uint8 on the host and cast them in the model. Also copy "
        "ahead: device_prefetch copies the next batches while a step runs."
    ),
    "pauses": (
        "Between its pauses the generator is faster than the step. Prefetch as many batches as the "
        "step takes during a pause."
    ),
    "step-bound": (
        "A faster input pipeline gains nothing: any prefetch keeps this step busy. Spend your "
        "time on the model."
    ),
}
# For a PyDataset, where its text differs: what a user can set there are Keras's arguments.
PY_DATASET_IN_WORDS: dict[Bottleneck, str] = {
    "generator-gil": "the Python code of __getitem__, under the GIL",
    "element-overhead": "the overhead of handing each batch from Python to tf.data",
    "blocking": "waiting in __getitem__ while the CPU is idle",
}
PY_DATASET_ADVICE: dict[Bottleneck, str] = {
    "generator-gil": (
        "Only one thread at a time runs Python. Make the PyDataset with use_multiprocessing=True "
        "and about as many workers as there are cores, or let NumPy do more of the work."
    ),
    "element-overhead": (
        "Every batch is copied into tf.data, and workers don't change that. Return smaller arrays, "
        "such as images in uint8, and convert them in the model."
    ),
    "blocking": (
        "Let several batches wait at once: make the PyDataset with more workers, and with a "
        "max_queue_size of at least as many. Threads are enough."
    ),
    "device-copy": (
        "Copy less: return smaller arrays, such as images in uint8, and convert them in the model."
    ),
    "shared-cores": (
        "The step takes longest, but it needs the cores that the input pipeline uses. Make "
        "__getitem__ cheaper: more workers would only take more of the cores."
    ),
}


class Diagnosis(BaseModel):
    """What limits a pipeline.

    Attributes:
        bottleneck: the class of the bottleneck; `class` in JSON.
        stage: the stage that has the bottleneck.
        advice: what to do about it, in a sentence or two.
        costs: the costs that it was inferred from.
        pauses: the generator's pauses; None if it has none, or none were looked for.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    bottleneck: Bottleneck = Field(alias="class")
    stage: StageName
    advice: str
    costs: StageCosts
    pauses: Pauses | None = None

    @property
    def in_words(self) -> str:
        """The bottleneck in words, as the end of a sentence that begins with "limited by"."""
        words = IN_WORDS | PY_DATASET_IN_WORDS if self.costs.py_dataset else IN_WORDS
        return words[self.bottleneck].format(stage=self.stage)


def stages(costs: StageCosts) -> dict[StageName, StageCost]:
    """The stages of the pipeline, in the order in which an example passes them."""
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
    """Seconds per example of all stages up to the batch in host memory, one after another."""
    after = ("device_copy", "step")
    return sum(cost.wall_s for name, cost in stages(costs).items() if name not in after)


def copy_share(costs: StageCosts) -> float:
    """Time of the copy to the device as a share of the step's; 0 if there is no copy."""
    return _copy_s(costs) / max(costs.step.wall_s, 1e-12)


def _copy_s(costs: StageCosts) -> float:
    return costs.device_copy.wall_s if costs.device_copy else 0.0


def cores_wanted(costs: StageCosts) -> float:
    """Cores that step and pipeline would keep busy if steps ran as fast as they do alone.

    If the copy to the device takes longer than the step, the pace is that of the copy.
    """
    cpu_s = sum(cost.cpu_s for cost in stages(costs).values())
    return cpu_s / max(costs.step.wall_s, _copy_s(costs), 1e-12)


def diagnose(costs: StageCosts, cores: float, pauses: Pauses | None = None) -> Diagnosis:
    """Names the bottleneck.

    It is the step if everything else fits beside it, both in time and into the cores. It is the
    cores if only the time fits. Otherwise it is the costliest stage. A copy to the device does not
    fit beside the step: unless batches are copied ahead, the step waits for it. The costs of the
    stages are those between the generator's pauses, which take the step's place if they matter.
    """
    found = _by_costs(costs, cores).model_copy(update={"pauses": pauses})
    if pauses is None or not pauses.bridging or found.bottleneck != "step-bound":
        return found
    return found.model_copy(
        update={"bottleneck": "pauses", "stage": "generator", "advice": ADVICE["pauses"]}
    )


def _by_costs(costs: StageCosts, cores: float) -> Diagnosis:
    before = {name: cost for name, cost in stages(costs).items() if name != "step"}
    if costs.step.wall_s + _copy_s(costs) >= producer_s(costs):
        if cores_wanted(costs) > SHARED * cores:
            stage = max(before, key=lambda name: before[name].cpu_s)
            return _diagnosis("shared-cores", stage, costs)
        if copy_share(costs) >= DELAYS:
            return _diagnosis("device-copy", "device_copy", costs)
        return _diagnosis("step-bound", "step", costs)
    # Making a batch takes longer than its copy and its step, so cheaper copies would gain nothing.
    made = {name: cost for name, cost in before.items() if name != "device_copy"}
    limiting = max(made, key=lambda name: made[name].wall_s)
    return _diagnosis(_in_stage(limiting, costs, waits=made[limiting].waits), limiting, costs)


def _in_stage(stage: StageName, costs: StageCosts, *, waits: bool) -> Bottleneck:
    """The bottleneck if this stage is the costliest one before the step."""
    if stage in ("generator", "map") and waits:
        return "blocking"
    if stage == "generator":
        return "generator-gil"
    if stage == "map":
        held = costs.map_is_python and costs.map_speedup < SCALES
        return "map-gil" if held else "map-cpu"
    # If batching is the costliest, that is also a cost per element.
    return "element-overhead"


def _diagnosis(bottleneck: Bottleneck, stage: StageName, costs: StageCosts) -> Diagnosis:
    advice = ADVICE | PY_DATASET_ADVICE if costs.py_dataset else ADVICE
    return Diagnosis(bottleneck=bottleneck, stage=stage, advice=advice[bottleneck], costs=costs)
