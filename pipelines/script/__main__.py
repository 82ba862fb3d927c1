"""The program in which a script trains with a chain, or has some steps of its `fit` timed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.timed import time_fit
from prefetch_tuning.pipelines.script.tuned import run_tuned
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.target import Target

MISUSE = 2


def main(given: Sequence[str] | None = None) -> int:
    """Returns 2, with one line, if the script doesn't get to its `fit` or has another chain."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", type=Target.parse)
    parser.add_argument("config", help="JSON")
    parser.add_argument("--chain", default="", help="the chain that was tuned, in words")
    parser.add_argument("--source", default="", help="where the configuration is from")
    parser.add_argument("--time", type=int, nargs=2, metavar=("STEPS", "DESCRIPTOR"))
    options = parser.parse_args(given)
    config = PipelineConfig.from_params(json.loads(options.config))

    def say(line: str) -> None:
        sys.stderr.write(f"{line} ({options.source})\n")

    try:
        if options.time is None:
            run_tuned(options.target, config, options.chain, say)
        else:
            time_fit(options.target, config, *options.time)
    except PipelineError as error:
        sys.stderr.write(f"error: {error}\n")
        return MISUSE
    return 0


if __name__ == "__main__":
    sys.exit(main())
