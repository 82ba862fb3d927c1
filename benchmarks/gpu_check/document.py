"""docs/gpu-check.md and docs/gpu-check.json: the machine, and a row per check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from benchmarks.audit.document import counted, table
from benchmarks.audit.judging import Line
from experiments.environment import host_description
from objectives.gpu import Gpu

# What tells machines apart.
SAME = ("host", "gpu", "driver")
Document = tuple[dict[str, str], list[Line]]


def machine(gpu: Gpu, facts: Mapping[str, str]) -> dict[str, str]:
    """Host, GPU, driver and TensorFlow, in words; what is not known is left out."""
    total = gpu.memory_total_mib
    found = {
        "host": host_description(),
        "gpu": gpu.name,
        "memory": f"{total:,.0f} MiB" if total else None,
        "driver": gpu.driver_version,
        "CUDA of the driver": gpu.cuda_driver_version,
        "TensorFlow": facts.get("tensorflow"),
        "built for CUDA": facts.get("built_for_cuda"),
        "built for cuDNN": facts.get("built_for_cudnn"),
        "compute capability": facts.get("compute_capability"),
    }
    return {name: words for name, words in found.items() if words}


def kept(earlier: str, facts: Mapping[str, str], lines: Sequence[Line]) -> Document:
    """Lines of an earlier document of the same machine with new ones in their places.

    Its facts are kept where they are not known anew. Of another machine nothing is kept.

    Args:
        earlier: the text of a gpu-check.json.
        facts: of the machine that measured `lines`.
        lines: of some of the checks.
    """
    before = json.loads(earlier)
    if any(before["machine"].get(what) != facts.get(what) for what in SAME):
        return dict(facts), list(lines)
    found = {line.name: line for line in map(Line.model_validate, before["checks"])}
    found |= {line.name: line for line in lines}
    return before["machine"] | dict(facts), list(found.values())


def markdown(facts: Mapping[str, str], lines: Sequence[Line], seconds: float) -> str:
    """The page."""
    described = ", ".join(f"{name}: {words}" for name, words in facts.items())
    return "\n".join(
        [
            "# What was checked on a GPU\n",
            f"`make gpu-check` on {datetime.now():%Y-%m-%d}, {seconds / 60:.0f} minutes: "
            f"{counted(lines)}.\n",
            f"The machine: {described}.\n",
            *table(lines),
            "",
        ]
    )


def as_json(facts: Mapping[str, str], lines: Sequence[Line], seconds: float) -> str:
    """The same for programs."""
    document = {
        "machine": dict(facts),
        "date": f"{datetime.now():%Y-%m-%d}",
        "seconds": round(seconds, 1),
        "checks": [line.model_dump() for line in lines],
    }
    return json.dumps(document, indent=2) + "\n"
