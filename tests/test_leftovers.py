"""The guards of conftest.py against what outlives a test, tried on tests that do and do not leave something."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest
from interrupting import interrupt

pytest_plugins = ["pytester"]

GUARD = Path(__file__).with_name("conftest.py").read_text().replace("_GRACE_SECONDS = 3.0", "_GRACE_SECONDS = 0.2")
# What is left ends by itself soon after the guard has seen it, so that this very test leaves nothing.
LEAVES = 'subprocess.Popen(["sleep", "0.8"])'
ORPHANS = 'subprocess.run(["sh", "-c", "sleep 0.8 & exit"], check=True)'
ENDS = 'subprocess.run(["true"], check=True)'


@pytest.mark.parametrize(("body", "failed"), [(LEAVES, True), (ORPHANS, True), (ENDS, False)])
def test_a_process_left_behind_fails_its_test(pytester: pytest.Pytester, body: str, *, failed: bool) -> None:
    """A test that leaves a child or an orphaned grandchild is told so by name; one that waits for its child passes."""
    pytester.makeconftest(GUARD)
    pytester.makepyfile(
        f"""
        import subprocess

        def test_it():
            {body}
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    if failed:
        result.stdout.fnmatch_lines(["*processes left behind: *sleep 0.8*"])
    result.assert_outcomes(passed=1, errors=int(failed))


def test_a_lock_of_logging_left_taken_fails_its_test(pytester: pytest.Pytester) -> None:
    """One test is told that it left the lock; the next finds it free, from whatever thread it logs."""
    pytester.makeconftest(GUARD)
    pytester.makepyfile(
        """
        import logging
        import threading

        def test_takes():
            logging._lock.acquire()

        def test_logs():
            thread = threading.Thread(target=logging.getLogger, args=("new",))
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
        """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*the lock of logging is left taken*"])
    result.assert_outcomes(passed=2, errors=1)


def test_no_interrupt_of_ours_comes_within_logging() -> None:
    """At whatever line of making a logger one is due, it comes after that: the lock is free for other threads."""
    for moment in range(1, 40):

        def make(name: str) -> None:
            logging.getLogger(name)
            assert name

        came, raised = interrupt(partial(make, f"new{moment}"), moment)
        assert came == (raised is not None)
        assert not vars(logging)["_lock"]._is_owned()
