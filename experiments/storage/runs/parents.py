"""Writes the parent run of each study, which its trials and rounds belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlflow.entities import Param, RunTag

from prefetch_tuning.experiments.storage.runs.drafts import Summary, as_text, points
from prefetch_tuning.experiments.storage.runs.views import studies_view, trials_view
from prefetch_tuning.experiments.storage.runs.writer import RunWriter
from prefetch_tuning.experiments.storage.schema import RESULT_TAGS, Kind, Tag

# MLflow's status for each state of a run. Only a trial that failed is FAILED.
STATUS = {
    "complete": "FINISHED",
    "infeasible": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}


class ParentWriter(RunWriter):
    """Begins, ends and replaces the parent runs of studies, and marks what doesn't count."""

    def start_study(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """Creates a study's parent run and returns its run id."""
        with self.one_line():
            found = self._experiment_id(experiment)
            run = self._client.create_run(found, run_name=name, tags={**tags, Tag.KIND: Kind.STUDY})
            run_id = str(run.info.run_id)
            self._save_views(found, studies_view(), trials_view(run_id, name))
        return run_id

    def resume_study(self, run_id: str) -> str | None:
        """Marks an earlier parent run, or the one in its place, as running again.

        Returns its run id; None if the run no longer exists.
        """
        with self.one_line():
            if self.find(run_id) is None:
                return None
            current = self._current(run_id)
            self._client.update_run(current, status="RUNNING")
        return current

    def finish_study(
        self,
        run_id: str,
        *,
        interrupted: bool,
        params: Mapping[str, object],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        texts: Mapping[str, str],
    ) -> str:
        """Writes a study's summary and its `texts` as artifacts to the parent run, and ends it.

        Returns the parent's run id. It is another one if a parameter has changed, such as a
        recommended setting after more rounds.
        """
        summary = Summary(
            run_id=run_id,
            interrupted=interrupted,
            params=as_text(params),
            metrics=dict(metrics),
            tags=dict(tags),
            texts=dict(texts),
        )
        return self.end(summary)

    def end(self, summary: Summary) -> str:
        """Ends a study's parent run; returns the parent's run id."""
        with self.one_line():
            return self._end(summary)

    def _end(self, summary: Summary) -> str:
        run_id, params = self._current(summary.run_id), summary.params
        earlier = self._client.get_run(run_id).data
        known = earlier.params
        is_changed = any(known.get(key, new) != new for key, new in params.items())
        if is_changed or known.keys() - params.keys():  # what it no longer recommends must go, too
            run_id = self._replace_study(run_id)
            known = {}
        self._client.log_batch(
            run_id,
            metrics=[point.metric for point in points(summary.metrics)],
            params=[Param(key, new) for key, new in params.items() if key not in known],
            tags=[RunTag(key, value) for key, value in summary.tags.items()],
        )
        # What the study found before, and no longer finds, must not stay.
        for key in sorted((RESULT_TAGS & earlier.tags.keys()) - summary.tags.keys()):
            self._client.delete_tag(run_id, key)
        self._client.set_terminated(run_id, "KILLED" if summary.interrupted else "FINISHED")
        # Last, because a server may refuse the report, which is large.
        for path, text in summary.texts.items():
            self._client.log_text(run_id, text, path)
        return run_id

    def mark_interrupted(self, run_id: str) -> None:
        """Marks the run of a trial whose study was killed before it recorded the result."""
        with self.one_line():
            self._interrupt(run_id)

    def _interrupt(self, run_id: str) -> None:
        self._client.set_tag(run_id, Tag.STATE, "interrupted")
        self._client.set_terminated(run_id, STATUS["interrupted"])

    def mark_uncounted(self, run_id: str, events: Sequence[str] = ()) -> None:
        """Marks a run of a round that is measured again, so that it doesn't count.

        Args:
            run_id: the run.
            events: what slowed the GPU down; empty if the round's node was lost.
        """
        with self.one_line():
            self._throttle(run_id, events)

    def _throttle(self, run_id: str, events: Sequence[str]) -> None:
        if events:
            self._client.set_tag(run_id, Tag.THROTTLED, ", ".join(events))
        self._interrupt(run_id)

    def _replace_study(self, run_id: str) -> str:
        """Creates a new parent run for a study, because MLflow doesn't let a parameter change.

        The children move to it. The earlier parent stays as it is, with a tag that leads here.
        """
        earlier = self._client.get_run(run_id)
        tags = {
            key: value
            for key, value in earlier.data.tags.items()
            if not key.startswith("mlflow.") or key == "mlflow.user"
        } | {Tag.KIND: Kind.STUDY}
        run = self._client.create_run(
            earlier.info.experiment_id,
            start_time=earlier.info.start_time,
            run_name=earlier.info.run_name,
            tags=tags,
        )
        new_id = str(run.info.run_id)
        if earlier.inputs is not None:
            self._client.log_inputs(new_id, earlier.inputs.dataset_inputs)
        # First, so that whoever goes on after an outage finds the new one.
        self._client.set_tag(run_id, Tag.REPLACED_BY, new_id)
        self._client.set_tag(run_id, Tag.KIND, Kind.REPLACED)
        self._move_children(run_id, new_id)
        self._client.set_terminated(run_id)
        name = str(earlier.info.run_name)
        self._save_views(earlier.info.experiment_id, trials_view(new_id, name))
        return new_id

    def _current(self, run_id: str) -> str:
        """The parent run that took this one's place, if any did, with all of its children."""
        found = self._client.get_run(run_id).data.tags.get(Tag.REPLACED_BY)
        if found is None:
            return run_id
        current = self._current(str(found))
        self._move_children(run_id, current)
        return current

    def _move_children(self, old: str, new: str) -> None:
        for child in self._search(None, f"tags.`{Tag.PARENT}` = '{old}'"):
            self._client.set_tag(child.run_id, Tag.PARENT, new)
