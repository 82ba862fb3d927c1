"""The closing table in the terminal, and the table of pipelines."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.results import MeasuredConfig, StudyResult
from objectives.measurement import PipelineInfo


def print_results(console: Console, results: list[StudyResult]) -> None:
    """Prints one row a pipeline, and what the numbers are not."""
    table = _table("Best configuration of each pipeline, in examples/s with its 95 % interval")
    table.add_column("pipeline")
    headings = ("batch", "prefetch", "map", "best", "AUTOTUNE", "no prefetch", "MiB")
    for heading in headings:
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(*_row(result))
    console.print(table)
    for result in results:
        console.print(_footnote(result), highlight=False, soft_wrap=True)
    console.print(
        "The best of many noisy trials is partly luck: a lead over AUTOTUNE that the\n"
        "intervals could explain is none.",
        highlight=False,
        soft_wrap=True,
    )


def print_pipelines(console: Console, infos: list[PipelineInfo]) -> None:
    """Prints what there is to tune."""
    table = _table("Pipelines")
    for heading in ("name", "element", "batch sizes", "searched", "what it is"):
        table.add_column(heading)
    for info in infos:
        axes = ["batch_size", "prefetch_buffer"] + ["map_parallelism"] * info.has_transform
        sizes = " ".join(str(size) for size in info.batch_sizes)
        table.add_row(info.name, info.element, sizes, "\n".join(axes), info.summary)
    console.print(table)


def _table(title: str) -> Table:
    # Little enough around the cells for 80 columns, the width of a log.
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )


def _row(result: StudyResult) -> list[str]:
    best = result.best
    if best is None:
        return [result.pipeline, "-", "-", "-", "no result", "-", "-", "-"]
    return [
        result.pipeline,
        str(best.config.batch_size),
        str(best.config.prefetch_buffer),
        str(best.config.map_parallelism),
        _rate(best),
        _rate(result.baselines.get("autotune")),
        _rate(result.baselines.get("no_prefetch")),
        f"{best.host_peak_mib:,.0f}",
    ]


def _rate(measured: MeasuredConfig | None) -> str:
    if measured is None:
        return "-"
    half_width = (measured.ci.high - measured.ci.low) / 2
    return f"{measured.examples_per_s:,.0f} ±{half_width:,.0f}"


def _footnote(result: StudyResult) -> str:
    counts = result.trials
    share = result.measured_s / result.wall_s if result.wall_s else 0.0
    parts = [f"{counts.complete} complete", f"{counts.pruned} pruned", f"{counts.failed} failed"]
    if counts.infeasible:
        parts.append(f"{counts.infeasible} over the memory limit")
    return (
        f"{result.pipeline}: {', '.join(parts)} on {result.device}, measuring {share:.0%} of "
        f"{result.wall_s:.0f} s; study {result.study}"
    )
