"""Known compute times of training steps on accelerators, with their sources.

The times are those of MLPerf Storage, which replaces the step of a known model by its time on a
known accelerator and judges whether the storage keeps it busy.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import DECIMALS, StepTime

SOURCE = "github.com/mlcommons/storage, configs/dlio/workload/"


@dataclass(frozen=True)
class Accelerator:
    """The step of one model on one accelerator.

    Attributes:
        name: what users type.
        model: the model that is trained.
        chip: the accelerator.
        batch_size: examples per step in the source.
        step_s: seconds per step in the source.
        file: the source's file.
        commit: the version of that file.
    """

    name: str
    model: str
    chip: str
    batch_size: int
    step_s: float
    file: str
    commit: str

    @property
    def step_time(self) -> StepTime:
        """The time of a step at any batch size, in proportion to its examples."""
        each_ms = round(1e3 * self.step_s / self.batch_size, DECIMALS)
        return StepTime(per_example_ms=each_ms, accelerator=self.name)

    @property
    def source(self) -> str:
        """Where the time comes from."""
        return f"{SOURCE}{self.file} at {self.commit}"


def _known(
    model: str, chip: str, batch_size: int, step_s: float, commit: str
) -> tuple[str, Accelerator]:
    name = f"{model}-{chip}".lower()
    file = f"{model.lower()}_{chip.lower()}.yaml"
    return name, Accelerator(name, model, chip, batch_size, step_s, file, commit)


ACCELERATORS: dict[str, Accelerator] = dict(
    [
        _known("ResNet50", "A100", 400, 0.435, "be18c3e"),
        _known("ResNet50", "H100", 400, 0.224, "ac0424f"),
        _known("UNet3D", "A100", 7, 0.636, "be18c3e"),
        _known("UNet3D", "H100", 7, 0.323, "7e73663"),
        _known("CosmoFlow", "A100", 1, 0.00551, "e3ffed0"),
        _known("CosmoFlow", "H100", 1, 0.00350, "c25079c"),
    ]
)


def accelerator(name: str) -> Accelerator:
    """The accelerator of this name.

    Raises:
        PipelineError: there is none; the message suggests the nearest one.
    """
    if name in ACCELERATORS:
        return ACCELERATORS[name]
    nearest = difflib.get_close_matches(name.lower(), ACCELERATORS, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "prefetch-tune accelerators lists them"
    raise PipelineError(f"no accelerator named {name!r}; {hint}")
