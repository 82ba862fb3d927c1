"""A study's report: one self-contained HTML page, the same in Markdown, and the code to paste."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.report.rendering import environment
from prefetch_tuning.experiments.report.sections import sections
from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.experiments.report.style import CONFIG
from prefetch_tuning.experiments.report.tables import environment_table
from prefetch_tuning.experiments.report.text import choice, findings, tone, verdict
from prefetch_tuning.experiments.storage.results import StudyRecord


def html(record: StudyRecord) -> str:
    """One page that asks the network for nothing: plotly is in it, once, and so are the data."""
    drawn = {
        section.id: [_div(chart, section.id, index) for index, chart in enumerate(section.figures)]
        for section in sections(record)
    }
    # In a script element nothing is escaped; only its end tag would end it.
    plotly = get_plotlyjs().replace("</script", "<\\/script")
    return _render("report.html.j2", record, figures=drawn, plotly=Markup(plotly))  # noqa: S704


def markdown(record: StudyRecord) -> str:
    """The same findings as text and tables: a file on GitHub, or in a mail."""
    return _render("report.md.j2", record)


def note(record: StudyRecord) -> str:
    """The verdict and the code alone: what the MLflow UI shows beside the study."""
    return _render("note.md.j2", record)


def write_report(record: StudyRecord, folder: Path) -> list[Path]:
    """Writes report.html, report.md and, if there is a configuration, snippet.py into `folder`.

    Each is written whole or not at all: a reader never sees half a file.

    Raises:
        UsageError: the folder cannot be made or written to.
    """
    texts = {"report.html": html(record), "report.md": markdown(record)}
    if code := snippet(record):
        texts["snippet.py"] = code
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, text) for name, text in texts.items()]
    except OSError as error:
        raise UsageError(
            f"cannot write the report into {str(folder)!r}: {error.strerror}; choose another folder"
        ) from error


def _render(template: str, record: StudyRecord, **more: object) -> str:
    result = record.result
    return (
        environment()
        .get_template(template)
        .render(
            info=record.info,
            result=result,
            host=record.host,
            verdict=verdict(record),
            tone=tone(result),
            facts=choice(record) + findings(result),
            sections=sections(record),
            snippet=snippet(record),
            environment=environment_table(record),
            **more,
        )
    )


def _div(chart: Figure, section: str, index: int) -> Markup:
    """A figure's element and the call that draws it; plotly escapes `<` in its JSON itself."""
    made: str = chart.to_html(
        full_html=False,
        include_plotlyjs=False,
        config=CONFIG,
        default_height=f"{chart.layout.height}px",
        div_id=f"figure-{section}-{index}",
    )
    return Markup(made)  # noqa: S704


def _write(path: Path, text: str) -> Path:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
