"""Renders a study's report: a self-contained HTML page, the same in Markdown, code to paste."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from markupsafe import Markup
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.report.rendering import environment
from prefetch_tuning.experiments.report.sections import Section, sections
from prefetch_tuning.experiments.report.snippet import snippet
from prefetch_tuning.experiments.report.style import CONFIG
from prefetch_tuning.experiments.report.tables import environment_table
from prefetch_tuning.experiments.report.text import findings
from prefetch_tuning.experiments.report.verdict_words import choice, tone, verdict
from prefetch_tuning.experiments.storage.config_file import CONFIG_FILE
from prefetch_tuning.experiments.storage.results import StudyRecord

# The file with the code to paste.
SNIPPET = "snippet.py"


class Report:
    """A study's report in all its formats; its figures are drawn only once."""

    def __init__(self, record: StudyRecord) -> None:
        self.record = record

    @cached_property
    def sections(self) -> list[Section]:
        """The sections of the page and of the Markdown, in order."""
        return sections(self.record)

    @cached_property
    def snippet(self) -> str:
        """The code to paste; empty if no configuration was measured."""
        return snippet(self.record)

    def html(self) -> str:
        """One page that needs no network: it contains plotly and the data, once."""
        drawn = {
            section.id: [
                _div(chart, section.id, index) for index, chart in enumerate(section.figures)
            ]
            for section in self.sections
        }
        # Nothing is escaped inside a script element, which only its end tag can close.
        plotly = Markup(get_plotlyjs().replace("</script", "<\\/script"))  # noqa: S704
        return self._render("report.html.j2", figures=drawn, plotly=plotly)

    def markdown(self) -> str:
        """The same findings as text and tables, for a repository or a mail."""
        return self._render("report.md.j2")

    def note(self) -> str:
        """The verdict, the findings and the code, which the MLflow UI shows with the study."""
        return self._render("note.md.j2")

    def files(self) -> dict[str, str]:
        """File names and their texts: the page, the Markdown, and the code and settings to use."""
        texts = {"report.html": self.html(), "report.md": self.markdown()}
        if self.snippet:
            texts[SNIPPET] = self.snippet
        recommended = self.record.result.recommended
        if recommended is not None:
            texts[CONFIG_FILE] = recommended.config.model_dump_json(indent=2)
        return texts

    def write(self, folder: Path) -> list[Path]:
        """Writes the files into `folder`. Each is replaced at once, so no reader sees half of one.

        Raises:
            UsageError: the folder cannot be created or written to.
        """
        texts = self.files()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return [_write(folder / name, text) for name, text in texts.items()]
        except OSError as error:
            raise UsageError(
                f"cannot write the report into {str(folder)!r}: {error.strerror}; choose another "
                "folder"
            ) from error

    def _render(self, template: str, **more: object) -> str:
        record, result = self.record, self.record.result
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
                sections=self.sections,
                snippet=self.snippet,
                environment=environment_table(record),
                **more,
            )
        )


def _div(chart: Figure, section: str, index: int) -> Markup:
    """A figure's element and the script that draws it; plotly escapes `<` in its JSON."""
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
