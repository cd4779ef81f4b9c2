"""What is not there, or is no table: the message says what to do, and the exit code that it is the input."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command import ccl_dispatch

EXAMPLE = next((Path(__file__).parents[3] / "tables" / "examples").glob("*.yaml"))
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


def test_a_journal_that_is_taken_for_a_table_is_called_one(tmp_path: Path) -> None:
    """The message has the two commands for it, ready to be typed."""
    done = ccl_dispatch("show", str(EXAMPLE.with_suffix(".journal")), folder=tmp_path)
    assert done.returncode == 2
    assert "this is the journal of a study, which has the samples that a table is made from" in done.stderr
    assert "YAML" not in done.stderr
    commands = re.findall(r"`ccl-dispatch (\w+ --storage \S+ --out \S+)`", done.stderr)
    assert [command.split()[0] for command in commands] == ["build", "report"]
    assert ccl_dispatch(*shlex.split(commands[0]), folder=tmp_path).returncode == 0
    assert (tmp_path / "table.yaml").is_file()


@pytest.mark.parametrize(
    "verb",
    [("report", "--out", "r.html"), ("build", "--out", "t2.yaml"), ("export", "--out", "s.csv"), ("sweep", "cpu")],
    ids=lambda verb: verb[0],
)
def test_a_table_that_is_taken_for_a_journal_is_called_one(tmp_path: Path, verb: tuple[str, ...]) -> None:
    """By verbs that read a storage and one that writes; a journal beside it is named, and it stays as it was."""
    table = tmp_path / "table.yaml"
    table.write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "study.journal").touch()
    done = ccl_dispatch(*verb, "--storage", "table.yaml", folder=tmp_path)
    assert done.returncode in {2, 3}, done.stderr
    assert "table.yaml is a table, expected the journal of a study" in done.stderr
    assert "such as study.journal beside it" in done.stderr
    assert "JSON" not in done.stderr
    assert table.read_bytes() == EXAMPLE.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study.journal", "table.yaml"]


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


@pytest.mark.parametrize(
    "call",
    [("--shape", f"{'9' * 400},2"), ("--size", "9" * 400), ("--size", f"{'9' * 400}KiB")],
    ids=["shape", "bytes", "with a unit"],
)
def test_a_call_that_no_memory_could_hold_is_told_as_such(tmp_path: Path, call: tuple[str, str]) -> None:
    """Whatever its number of digits: a sentence, and exit code 2."""
    table = next((Path(__file__).parents[3] / "tables").glob("**/*.yaml"))
    done = ccl_dispatch("explain", str(table), *call, *CALL, folder=tmp_path)
    assert done.returncode == 2
    assert "than a size can be" in done.stderr or "is not a size" in done.stderr
    assert len(done.stderr) < 400


@pytest.mark.parametrize("ranks", ["0", "1", "-4"])
def test_a_group_has_two_ranks_at_least(tmp_path: Path, ranks: str) -> None:
    """Zero is a mistake like any other, and not taken for an option that was not given."""
    (tmp_path / "m.txt").write_text("")
    words = ("import", "m.txt", "--baseline", "rccl", "--storage", "s.journal", "--world-size", ranks)
    done = ccl_dispatch(*words, folder=tmp_path)
    assert done.returncode == 2
    assert f"--world-size {ranks}: expected at least 2" in done.stderr


def test_platforms_of_one_file_are_one_for_whoever_says_so(tmp_path: Path) -> None:
    """Rows of several platforms are refused with both ways out; with --platform they are all of it."""
    header = "collective,mode,dtype,world_size,shape,bytes,backend,latency_us,platform\n"
    rows = [f"all_gather,eager,float32,2,,64,{name},{us},{on}\n" for name, us, on in (("a", 3, "x"), ("b", 2, "y"))]
    (tmp_path / "m.csv").write_text(header + "".join(rows))
    words = ("import", "m.csv", "--baseline", "a", "--storage", "s.journal")
    done = ccl_dispatch(*words, folder=tmp_path)
    assert done.returncode == 2
    assert "--where platform=" in done.stderr
    assert ccl_dispatch(*words, "--platform", "x", folder=tmp_path).returncode == 0
