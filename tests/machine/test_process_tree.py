"""CPU time of real child processes, which may end before they were ever looked at."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from prefetch_tuning.objectives.machine.process_tree import ProcessTree

BURN_S = 0.4
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass\n"
# What starting an interpreter takes, and how exact the kernel's times are.
START_S, EXACT_S = 0.4, 0.1


def burn(then: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", BURN + then], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def of_children(tree: ProcessTree) -> float:
    """Without the time of this process, in which looking at processes takes long."""
    return tree.cpu_s() - time.process_time()


def test_a_child_that_ended_unseen_counts_once() -> None:
    tree = ProcessTree()
    before = of_children(tree)
    for _ in range(2):
        burn().communicate()
        used = of_children(tree) - before
        tree.look()
        assert of_children(tree) - before == pytest.approx(used, abs=EXACT_S)

    assert 2 * BURN_S - EXACT_S < used < 2 * (BURN_S + START_S)


def test_a_child_that_is_seen_counts_once_when_it_has_ended() -> None:
    tree = ProcessTree()
    before = of_children(tree)
    child = burn("print(flush=True)\nimport sys\nsys.stdin.read()\n")
    assert child.stdout is not None
    child.stdout.readline()  # it has burned
    tree.look()
    seen = of_children(tree) - before
    child.kill()
    child.communicate()
    tree.look()

    assert seen > BURN_S - EXACT_S
    assert of_children(tree) - before == pytest.approx(seen, abs=EXACT_S)
