"""The command line: exit codes, and messages that say what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.cli import VERBS
from ccl_dispatch.tuner.emit import write_table

MI300X = Path(__file__).parent.parent / "data" / "measurements" / "mi300x-all_reduce-rccl-quickreduce.csv"
GOOD = """\
name: bad
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
sizes: {min: 64 B, max: 1 KiB}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The file of a small valid table."""
    path = tmp_path / "table.yaml"
    cell = make_cell(Cell("all_gather", "graph", "first", "bfloat16", 8), 16, [65536, 1 << 20], ["aiter", "rccl"])
    write_table(make_table((cell,)), path)
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, tmp_path: Path) -> None:
    """`--help` of each verb ends with 0 and shows a command to copy."""
    done = ccl_dispatch(verb, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert f"example: ccl-dispatch {verb}" in done.stdout


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("baseline:", "baselin:"), ["bad.yaml:3", "baselin", "baseline"]),
        (("[shm]", "[shn]"), ["bad.yaml:4", "shm"]),
        (("[2]", "[4096]"), ["4096", "memory"]),
        (("[2]", "[1]"), ["bad.yaml:5", "world_sizes"]),
        (("bfloat16", "bfloat17"), ["bad.yaml:6", "bfloat16"]),
    ],
)
def test_a_bad_config_is_told_with_its_place(tmp_path: Path, change: tuple[str, str], expected: list[str]) -> None:
    """A wrong key or value ends with 2, and the message names the place and what was probably meant."""
    (tmp_path / "bad.yaml").write_text(GOOD.replace(*change))
    done = ccl_dispatch("sweep", "bad.yaml", folder=tmp_path)
    assert done.returncode == 2
    for word in expected:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "--storage", "nowhere.journal", "--out", "t.yaml"),
        ("export", "--storage", "nowhere.journal", "--out", "t.csv"),
        ("build", "--storage", "nosuchdb://x/y", "--out", "t.yaml"),
        ("sweep", "nowhere.yaml"),
        ("evaluate", "table.yaml", "nowhere.csv"),
        ("import", "nowhere.csv", "--storage", "s.journal", "--baseline", "rccl"),
        ("import", str(MI300X), "--storage", "s.journal", "--baseline", "rcl"),
        ("explain", "table.yaml", "--shape", "x", "--dtype", "bfloat16", "--world-size", "8"),
        ("explain", "table.yaml", "--size", "64", "--dtype", "bfloat17", "--world-size", "8"),
        ("nosuchverb",),
    ],
)
def test_wrong_use_ends_with_2(tmp_path: Path, table: Path, arguments: tuple[str, ...]) -> None:
    """Bad arguments and missing inputs end with 2 and one clear message, never a traceback."""
    done = ccl_dispatch(*arguments, folder=table.parent)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_validate_tells_good_from_bad(table: Path) -> None:
    """A valid table ends with 0; one with a changed figure with 1, and the message names the digest."""
    assert ccl_dispatch("validate", "table.yaml", folder=table.parent).returncode == 0
    (table.parent / "edited.yaml").write_text(table.read_text().replace("gain: 0.25", "gain: 0.26", 1))
    done = ccl_dispatch("validate", "table.yaml", "edited.yaml", folder=table.parent)
    assert done.returncode == 1
    assert "digest" in done.stdout


def test_show_and_explain_answer(table: Path) -> None:
    """Show prints bands and the mark of replayed figures; explain names the backend in and out of range."""
    shown = ccl_dispatch("show", "table.yaml", folder=table.parent)
    assert "aiter" in shown.stdout
    assert "replayed" in shown.stdout
    call = ("--dtype", "bfloat16", "--world-size", "8", "--mode", "graph", "--json")
    inside = ccl_dispatch("explain", "table.yaml", "--shape", "4,128", *call, folder=table.parent)
    assert json.loads(inside.stdout)["use"] == "aiter"
    outside = ccl_dispatch("explain", "table.yaml", "--shape", "8192,8192", *call, folder=table.parent)
    assert json.loads(outside.stdout)["use"] == "rccl"


def test_import_build_evaluate(tmp_path: Path) -> None:
    """Published figures are imported, built into a table that says so, and judged on themselves."""
    done = ccl_dispatch("import", str(MI300X), "--storage", "s.journal", "--baseline", "rccl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    again = ccl_dispatch("import", str(MI300X), "--storage", "s.journal", "--baseline", "rccl", folder=tmp_path)
    assert again.returncode == 2
    assert "already" in again.stderr
    built = ccl_dispatch("build", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    assert "imported" in built.stdout
    judged = ccl_dispatch("evaluate", "t.yaml", str(MI300X), "--json", folder=tmp_path)
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["overall"]["table"]["mean"] >= 0


def test_doctor_names_every_backend(tmp_path: Path) -> None:
    """Doctor says of gloo and shm that they are ready here."""
    facts = json.loads(ccl_dispatch("doctor", "--json", folder=tmp_path).stdout)
    assert facts["backends"] == {"gloo": None, "shm": None}
    assert facts["platform"]["device_count"] >= 1


def test_two_sweeps_do_not_share_a_journal(tmp_path: Path) -> None:
    """A storage that another process holds is refused with that process's number."""
    from ccl_dispatch.tuner.study import open_storage

    (tmp_path / "c.yaml").write_text(
        f"name: c\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}}}\n"
    )
    with open_storage(str(tmp_path / "s.journal"), write=True):
        done = ccl_dispatch("sweep", "c.yaml", "--storage", "s.journal", folder=tmp_path)
    assert done.returncode == 2
    assert "in use by process" in done.stderr


def test_a_torn_journal_is_mended(tmp_path: Path) -> None:
    """A journal whose last line was torn is continued, and the torn bytes are set aside."""
    (tmp_path / "c.yaml").write_text(
        f"name: c\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}}}\n"
    )
    first = ccl_dispatch("sweep", "c.yaml", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    table = (tmp_path / "t.yaml").read_bytes()
    with (tmp_path / "s.journal").open("ab") as journal:
        journal.write(b'{"op_code": 4, "work')
    second = ccl_dispatch("sweep", "c.yaml", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "torn" in second.stderr
    assert (tmp_path / "s.journal.torn").read_bytes().startswith(b'{"op_code": 4')
    assert (tmp_path / "t.yaml").read_bytes() == table


def test_another_config_does_not_mix_in(tmp_path: Path) -> None:
    """A storage with samples of another sweep is refused, naming what differs."""
    text = f"name: c\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}}}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert ccl_dispatch("sweep", "c.yaml", folder=tmp_path).returncode == 0
    (tmp_path / "c.yaml").write_text(text + "policy: {min_gain: 0.1}\n")
    done = ccl_dispatch("sweep", "c.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "policy.min_gain: 0.03 against 0.1" in done.stderr
