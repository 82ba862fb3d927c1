"""Profiles a few steps with large batches and prints what copies and kernels did, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.gpu_check.claims.overlap import Span, common, length, merged
from benchmarks.gpu_check.planted import Images
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.machine.device import select_device
from prefetch_tuning.pipelines.chain.build import build_dataset, sample_batch
from prefetch_tuning.pipelines.config import PipelineConfig

BATCH, STEPS, WARM = 64, 20, 10
COPY = "MemcpyH2D"
NS_PER_S = 1e9


def main(ahead: int) -> None:
    """Runs steps as a trial does, with `ahead` batches on the device; with 0 each step copies."""
    select_device("auto")
    pipeline = Images()
    config = PipelineConfig(
        batch_size=BATCH,
        prefetch_buffer=4,
        map_parallelism=1,
        generator_chunk=BATCH,
        device_prefetch=ahead,
    )
    dataset = build_dataset(pipeline, config)
    feed = TrainingFeed(pipeline.build_model(), dataset)
    elements = [next(pipeline.generate(0))]
    feed.trace(sample_batch(pipeline, elements, BATCH))
    feed.start()
    for _ in range(WARM):
        feed.advance()
    feed.synchronise()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        begin = time.perf_counter()
        for _ in range(STEPS):
            feed.advance()
        feed.synchronise()
        seconds = time.perf_counter() - begin
        tf.profiler.experimental.stop()
        copies, kernels = spans(Path(folder))
    copy_s, beside_s = length(merged(copies)), common(copies, kernels)
    found = {
        "step_s": seconds / STEPS,
        "copy_s": copy_s / STEPS,
        "kernel_s": length(merged(kernels)) / STEPS,
        "overlapped": beside_s / copy_s if copy_s else 0.0,
        "copies": len(copies),
    }
    print(json.dumps(found))


def spans(folder: Path) -> tuple[list[Span], list[Span]]:
    """The spans, in seconds, in which the device copied from the host and in which it computed."""
    copies: list[Span] = []
    kernels: list[Span] = []
    for name, begin, end in device_events(folder):
        if COPY in name:
            copies.append((begin, end))
        elif "Memcpy" not in name and "Memset" not in name:
            kernels.append((begin, end))
    return copies, kernels


def device_events(folder: Path) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end, in seconds, of each event on a device's streams in the profile."""
    for file in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
        for plane in space.planes:
            if not plane.name.startswith("/device:GPU"):
                continue
            names = {key: value.name for key, value in plane.event_metadata.items()}
            for stream in plane.lines:
                if "Stream" not in stream.name:
                    continue  # lines that repeat the streams' events by op or by module
                for event in stream.events:
                    begin = stream.timestamp_ns / NS_PER_S + event.offset_ps / 1e12
                    yield names[event.metadata_id], begin, begin + event.duration_ps / 1e12


if __name__ == "__main__":
    main(int(sys.argv[1]))
