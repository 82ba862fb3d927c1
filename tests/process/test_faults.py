"""Real faults of a user's code in real trials: each has its kind and costs only its own trial."""

from __future__ import annotations

import os
import threading
import time

import pytest

from prefetch_tuning.objectives.process import output
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.process.turns import TURNS, host_lock
from prefetch_tuning.objectives.spec import TrialSpec
from tests.planted.faults import LAST_WORDS
from tests.process.test_runner import QUICK, failure, measured, spec


def planted(name: str, **changes: object) -> TrialSpec:
    return spec(name, **{"pipeline": f"tests.planted.faults:{name}", **changes})


@pytest.mark.parametrize(
    ("name", "kind", "detail"),
    [
        ("Exiting", "crash", "exited with status 7"),
        ("OpensFiles", "generator", "Too many open files"),
        ("NotANumber", "nan_loss", "the loss is nan"),
        ("ChangesShape", "generator", "shape"),
    ],
)
def test_a_fault_has_its_kind_and_its_reason(
    runner: TrialRunner, name: str, kind: str, detail: str
) -> None:
    found = failure(runner, planted(name, deadline_s=60.0))

    assert (found.kind, detail in found.detail) == (kind, True), found
    measured(runner, spec("Planted"))


@pytest.mark.parametrize("name", ["Deaf", "NeverBegins"])
def test_what_hangs_is_killed_at_the_deadline(runner: TrialRunner, name: str) -> None:
    """One holds the GIL and ignores SIGTERM, the other never yields an element."""
    begin = time.monotonic()
    found = failure(runner, planted(name, deadline_s=4.0))

    assert found.kind == "timeout"
    assert time.monotonic() - begin < 30.0  # not an hour
    assert "(faults.py, line" in found.detail
    measured(runner, spec("Planted"))


def test_of_a_flood_of_output_only_the_end_is_kept(runner: TrialRunner) -> None:
    """Seen: a temporary file grew by what a trial wrote, without bound."""
    found = failure(runner, planted("Talkative", deadline_s=60.0))

    assert found.kind == "crash"
    assert LAST_WORDS in found.output
    assert len(found.output) <= output.BYTES


def test_a_generator_with_fewer_elements_than_a_batch_starts_over(runner: TrialRunner) -> None:
    found = measured(runner, planted("ThreeElements", stop=QUICK))

    assert found.generator_restarts > 0


def test_output_keeps_its_end_and_notices_the_end_of_the_pipe() -> None:
    with output.Output() as pipe:
        os.write(pipe.write_end, b"first\n" + b"x" * 20_000 + b"\nlast")
        pipe.started()

        assert pipe.tail.endswith("\nlast")
        assert "first" not in pipe.tail
        assert pipe.count == 20_011
        assert not pipe.is_open


def test_who_waits_for_another_programs_trial_is_told_once(runner: TrialRunner) -> None:
    said: list[str] = []
    runner.say = said.append
    runner._said = False
    with host_lock():
        waiting = threading.Thread(target=lambda: measured(runner, spec("Planted")))
        waiting.start()
        while not said and waiting.is_alive():
            time.sleep(0.05)
    waiting.join()

    assert said == [TURNS]
    measured(runner, spec("Planted"))
    assert said == [TURNS]
