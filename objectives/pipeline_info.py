"""What is known of a pipeline before anything is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class PipelineInfo(BaseModel):
    """What a fresh process learns about a pipeline before anything is measured or written.

    Attributes:
        target: `module:attribute`.
        batch_sizes: in examples, ascending.
        has_transform: False removes `map_parallelism` from the search.
        element: what the generator yields, in words.
        element_spec: the same as Python source that needs only `tf`, for the report's snippet.
        padded: its batches are padded, because a dimension is unknown.
        element_bytes: bytes of one element after the map; None if the size varies.
        device: what training steps run on, in words, for the requested device.
        source_digest: SHA-256 of the source files that define the pipeline.
        stand_in: what replaces a model's training step, in words; None for a real model.
        kind: "generator"; "chain" for one that declares its transformations; "batches" for a
            user's own chain. The latter two yield batches where a generator yields elements.
        flat: its elements are plain tuples of tensors.
        axes: settings that it can be measured with, besides batch size and prefetch.
        not_offered: settings that wouldn't work or would change its data, and the reason for each.
        own: settings that it was made with; the AUTOTUNE baseline keeps them.
        random_stage: how many transformations of a chain come before the first map that draws
            random numbers; None if no map does.
        unordered_stage: behind how many transformations of a chain its elements can be compared
            as a set; None if that isn't a declared chain.
        unordered_maps: how many maps are among these.
        written: whether a script wrote its chain, which is then a candidate as well.
        chain: a script's chain in words, to recognise it.
        reach_s: seconds that a script takes to its `fit`, in each process.
        calls: the calls that made it, each with its place, like ("map", "train.py:41").
    """

    model_config = ConfigDict(frozen=True)

    target: str
    name: str
    summary: str
    batch_sizes: list[int]
    has_transform: bool
    element: str
    element_spec: str
    padded: bool
    element_bytes: int | None
    device: str
    source_digest: str
    stand_in: str | None = None
    kind: Literal["generator", "chain", "batches"] = "generator"
    flat: bool = True
    axes: list[str] = []
    not_offered: dict[str, str] = {}
    own: dict[str, bool | int] = {}
    random_stage: int | None = None
    unordered_stage: int | None = None
    unordered_maps: int = 1
    written: bool = False
    chain: str = ""
    calls: list[tuple[str, str]] = []
    reach_s: float = 0.0

    @property
    def has_stages(self) -> bool:
        """Whether its stages can be measured; not for a function that builds its own dataset."""
        return self.kind != "batches" or "workers" in self.axes
