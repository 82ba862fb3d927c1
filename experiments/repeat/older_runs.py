"""Runs of version 0.1: what they measured, by the names of today."""

from __future__ import annotations

import re

from prefetch_tuning.experiments.storage.runs import LoggedRun

VERSION_TAG = "version.prefetch-tuning"
OLDEST = "0.1."
# The built-in pipelines were modules of their own.
BUILT_IN = re.compile(
    r"(?<![\w.])pipelines\.(simple|noisy|image|jpeg|text|remote|tabular|keras_sequence):"
)
HEAVY = re.compile(r"(?<![\w.])pipelines\.resnet:")


def params_of(run: LoggedRun) -> dict[str, str]:
    """The parameters of a run; an older one's pipeline is named as it is now.

    A user's own `pipelines/simple.py` is left alone in what later versions logged.
    """
    params = dict(run.params)
    if run.tags.get(VERSION_TAG, "").startswith(OLDEST) and "pipeline" in params:
        params["pipeline"] = renamed(params["pipeline"])
    return params


def renamed(target: str) -> str:
    """A target of version 0.1 by today's names of the built-in pipelines."""
    target = BUILT_IN.sub(r"prefetch_tuning.pipelines.builtin.\1:", target)
    return HEAVY.sub("prefetch_tuning.pipelines.builtin.heavy.resnet:", target)
