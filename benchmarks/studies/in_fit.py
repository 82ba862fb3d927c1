"""Compares recommendations with AUTOTUNE in `model.fit` itself, as a Markdown table.

Run where the studies were made: .venv/bin/python benchmarks/studies/in_fit.py STUDY [STUDY ...]
Each recommendation trains in fresh processes, alternately with AUTOTUNE at the same batch size. The
second epoch is timed, including everything that fit does around a step. Nothing is logged.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from prefetch_tuning.experiments.report.conclusion import kept_record
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.pipelines.config import PipelineConfig

PROGRAM = Path(__file__).with_name("fit_once.py")
ROUNDS = 3
EPOCH_S = 3.0


def main(studies: list[str]) -> None:
    """Prints one row per study: fit's rates with AUTOTUNE and as recommended, and the ratio."""
    store = Store.choose(Path.cwd(), None, None)
    print("| pipeline | batch | fit, AUTOTUNE | fit, recommended | ratio | ratio of the study |")
    print("|---|---:|---:|---:|---:|---:|")
    for study in studies:
        record = kept_record(study, store)
        chosen, speedup = record.result.recommended, record.result.speedup
        if chosen is None or speedup is None or chosen.config.is_autotune:
            print(f"| {record.info.name} | | | nothing to compare with AUTOTUNE | | |", flush=True)
            continue
        size = chosen.config.batch_size
        rates: list[tuple[float, float]] = []
        autotune = record.result.baselines[AUTOTUNE]
        for _ in range(ROUNDS):
            one = in_process(record.info.target, autotune.config, autotune.examples_per_s)
            other = in_process(record.info.target, chosen.config, chosen.examples_per_s)
            rates.append((one, other))
        before, after = (statistics.median(column) for column in zip(*rates, strict=True))
        print(
            f"| {record.info.name} | {size} | {before:,.0f} | {after:,.0f} "
            f"| {statistics.median(b / a for a, b in rates):.1f} | {speedup.ratio:.1f} |",
            flush=True,
        )


def in_process(target: str, config: PipelineConfig, expected: float) -> float:
    """Examples/s of one configuration, measured in a separate process."""
    steps = max(int(EPOCH_S * expected / config.batch_size), 5)
    command = [sys.executable, str(PROGRAM), target, config.model_dump_json(), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("studies", nargs="+", metavar="STUDY")
    main(arguments.parse_args().studies)
