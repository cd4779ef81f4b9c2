"""The guard of conftest.py against processes that outlive their test, tried on tests that do and do not leave one."""

from __future__ import annotations

from pathlib import Path

import pytest

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
