"""Reads and writes what Optuna's storage keeps of a study's latest confirmation."""

from __future__ import annotations

import optuna

from prefetch_tuning.experiments.storage.schema import StudyAttr
from prefetch_tuning.experiments.storage.stored import read_stored
from prefetch_tuning.experiments.verdict.measurements import (
    BEST,
    MeasuredRound,
    PlainData,
    Round,
)
from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.pipelines.config import PipelineConfig

Candidates = dict[str, PipelineConfig]


class ConfirmationAttributes:
    """Reads and writes the candidates and rounds of a study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study

    @property
    def candidates(self) -> Candidates:
        """Candidates of the latest confirmation; empty before the first one."""
        kept = self._study.user_attrs.get(f"{StudyAttr.CONFIRMATION}{self._latest}", {})
        return {name: read_stored(PipelineConfig, config) for name, config in kept.items()}

    def nominate(self, candidates: Candidates) -> None:
        """Begins a new confirmation unless the latest one has exactly these candidates."""
        if candidates != self.candidates:
            kept = {name: config.model_dump() for name, config in candidates.items()}
            self._study.set_user_attr(f"{StudyAttr.CONFIRMATION}{self._latest + 1}", kept)

    @property
    def rounds(self) -> list[Round]:
        """Each candidate's measurements in the latest confirmation's whole rounds, in order."""
        return [kept.measured for kept in self._kept_rounds]

    @property
    def limits(self) -> list[LimitTerms | None]:
        """The limit's terms in those rounds; None for a round that didn't measure them."""
        return [kept.limit.terms if kept.limit else None for kept in self._kept_rounds]

    @property
    def rounds_s(self) -> float:
        """Total duration of those rounds in seconds."""
        return sum(kept.seconds for kept in self._kept_rounds)

    def add_round(self, kept: MeasuredRound) -> None:
        """Stores a whole round. An interrupted round isn't stored, so it is measured again."""
        key = f"{StudyAttr.ROUND}{self._latest}/{len(self._kept_rounds):04d}"
        self._study.set_user_attr(key, kept.model_dump(mode="json"))

    @property
    def data(self) -> PlainData | None:
        """The plain chain's batches in the latest confirmation; None before they were read."""
        kept = self._study.user_attrs.get(f"{StudyAttr.DATA}{self._latest}")
        return None if kept is None else read_stored(PlainData, kept)

    @data.setter
    def data(self, data: PlainData) -> None:
        self._study.set_user_attr(f"{StudyAttr.DATA}{self._latest}", data.model_dump(mode="json"))

    @property
    def other_data(self) -> list[str]:
        """Candidates of the latest confirmation whose data differs from the plain chain's."""
        return list(self._study.user_attrs.get(f"{StudyAttr.OTHER_DATA}{self._latest}", []))

    def mark_other_data(self, candidate: str) -> None:
        """Excludes a candidate from the latest confirmation."""
        found = [*self.other_data, candidate]
        self._study.set_user_attr(f"{StudyAttr.OTHER_DATA}{self._latest}", found)

    @property
    def excluded_with_best(self) -> list[PipelineConfig]:
        """Candidates excluded for their data, of those confirmations that excluded the best one."""
        attrs, found = self._study.user_attrs, []
        for number in range(1, self._latest + 1):
            names = attrs.get(f"{StudyAttr.OTHER_DATA}{number}", [])
            configs = attrs[f"{StudyAttr.CONFIRMATION}{number}"]
            found += [read_stored(PipelineConfig, configs[name]) for name in names if BEST in names]
        return found

    def take_back_other_data(self) -> None:
        """Readmits what `mark_other_data` excluded, also from earlier confirmations."""
        for number in range(1, self._latest + 1):
            self._study.set_user_attr(f"{StudyAttr.OTHER_DATA}{number}", [])

    @property
    def _latest(self) -> int:
        numbers = [key for key in self._study.user_attrs if key.startswith(StudyAttr.CONFIRMATION)]
        return len(numbers)

    @property
    def _kept_rounds(self) -> list[MeasuredRound]:
        attrs = self._study.user_attrs
        prefix = f"{StudyAttr.ROUND}{self._latest}/"
        kept = [attrs[key] for key in sorted(attrs) if key.startswith(prefix)]
        return [read_stored(MeasuredRound, found) for found in kept]
