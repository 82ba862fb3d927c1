"""The texts of docs/gpu-check.md and docs/gpu-check.json: the machine and the checks' results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from benchmarks.audit.document import counted, table
from benchmarks.gpu_check.checks import Checked
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.objectives.machine.gpu import Gpu

# The facts that tell machines apart, if both machines' values are known.
SAME = ("host", "gpu", "driver", "TensorFlow")
Document = tuple[dict[str, str], list[Checked]]


def machine(gpu: Gpu, facts: Mapping[str, str]) -> dict[str, str]:
    """Host, GPU, driver and TensorFlow, in words; unknown facts are left out."""
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


def kept(earlier: str, facts: Mapping[str, str], found: Sequence[Checked]) -> Document:
    """An earlier document of the same machine, with its facts and checks brought up to date.

    An earlier fact or check is kept if there is no new one. If the earlier document is of another
    machine, nothing of it is kept.

    Args:
        earlier: the text of a gpu-check.json.
        facts: the facts of the machine that ran `found`.
        found: the checks that were run, which may be only some of them.
    """
    before = json.loads(earlier)
    known = before["machine"]
    if any(what in known and what in facts and known[what] != facts[what] for what in SAME):
        return dict(facts), list(found)
    checks = {each.check: each for each in map(Checked.model_validate, before["checks"])}
    checks |= {each.check: each for each in found}
    return known | dict(facts), list(checks.values())


def markdown(facts: Mapping[str, str], found: Sequence[Checked], all_checks: Sequence[str]) -> str:
    """The page, with one table per day.

    Args:
        facts: the facts of the machine.
        found: the checks that were run.
        all_checks: the names of all checks.
    """
    described = ", ".join(f"{name}: {words}" for name, words in facts.items())
    lines = [line for each in found for line in each.lines]
    minutes = sum(each.seconds for each in found) / 60
    missing = [name for name in all_checks if name not in {each.check for each in found}]
    page = [
        "# What was checked on a GPU\n",
        f"`make gpu-check`, {minutes:.0f} minutes: {counted(lines)}.\n",
        f"The machine: {described}.\n",
    ]
    if missing:
        page.append(f"Not run: {', '.join(missing)}.\n")
    for date in sorted({each.date for each in found}):
        of_that_day = [line for each in found if each.date == date for line in each.lines]
        page += [f"## {date}\n", *table(of_that_day), ""]
    return "\n".join(page)


def as_json(facts: Mapping[str, str], found: Sequence[Checked]) -> str:
    """The document for programs; `kept` reads it back."""
    document = {"machine": dict(facts), "checks": [each.model_dump() for each in found]}
    return json.dumps(document, indent=2) + "\n"
