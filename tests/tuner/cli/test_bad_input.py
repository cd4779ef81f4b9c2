"""What is not there, or is no table: the message says what to do, and the exit code that it is the input."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ccl_dispatch

CALL = ("--dtype", "float16", "--world-size", "8", "--mode", "eager")


@pytest.mark.parametrize("text", ["", "{}\n", "schema: ccl-dispatch/table/v1\n"], ids=["empty", "no key", "torn"])
@pytest.mark.parametrize("verb", ["show", "explain", "diff", "verify"])
def test_a_table_that_is_none_is_bad_input(tmp_path: Path, verb: str, text: str) -> None:
    """Exit code 1 would be an answer: that two tables differ, or that this one has drifted."""
    (tmp_path / "t.yaml").write_text(text)
    more = {"explain": ("--shape", "8,8", *CALL), "diff": ("t.yaml",)}.get(verb, ())
    done = ccl_dispatch(verb, "t.yaml", *more, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "t.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_answers_no(tmp_path: Path) -> None:
    """Whether a table is valid is what `validate` was asked."""
    (tmp_path / "t.yaml").write_text("{}\n")
    assert ccl_dispatch("validate", "t.yaml", folder=tmp_path).returncode == 1


def test_a_config_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    """A mistyped name of a config that comes with the package gets the right one."""
    done = ccl_dispatch("sweep", "cpux", folder=tmp_path)
    assert done.returncode == 2
    assert "cpux: there is no such file" in done.stderr
    assert "Did you mean 'cpu'?" in done.stderr


def test_an_extent_that_is_no_number_is_named(tmp_path: Path) -> None:
    """In the words of the command line, not of Python."""
    table = next((Path(__file__).parents[3] / "tables").glob("**/*.yaml"))
    done = ccl_dispatch("explain", str(table), "--shape", "a,8", *CALL, folder=tmp_path)
    assert done.returncode == 2
    assert "'a' is no whole number" in done.stderr
