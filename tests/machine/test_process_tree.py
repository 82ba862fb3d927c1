"""CPU time of real child processes, which may end before they were ever looked at."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prefetch_tuning.objectives.machine.process_tree import ProcessTree

BURN_S = 0.4
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass\n"
# What starting an interpreter takes.
START_S = 0.4


def burn(then: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", BURN + then], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_a_child_that_ended_unseen_counts_once() -> None:
    tree = ProcessTree()
    before = tree.cpu_s()
    for _ in range(2):
        burn().communicate()
        used = tree.cpu_s() - before
        tree.look()
        assert tree.cpu_s() - before == pytest.approx(used, abs=0.1)

    assert 2 * BURN_S <= used < 2 * (BURN_S + START_S)


def test_a_child_that_is_seen_counts_once_when_it_has_ended() -> None:
    tree = ProcessTree()
    before = tree.cpu_s()
    child = burn("print(flush=True)\nimport sys\nsys.stdin.read()\n")
    assert child.stdout is not None
    child.stdout.readline()  # it has burned
    tree.look()
    seen = tree.cpu_s() - before
    child.kill()
    child.communicate()
    tree.look()

    assert seen >= BURN_S
    assert tree.cpu_s() - before == pytest.approx(seen, abs=0.1)
