"""The command line: exit codes, and messages that say what to do."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
from command import ccl_dispatch
from made_configs import SMALL
from made_logs import rccl_log, sglang_log
from made_tables import make_cell, make_table

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import BACKENDS
from ccl_dispatch.tuner.cli import VERBS
from ccl_dispatch.tuner.emit.text import write_table

MI300X = Path(__file__).parents[2] / "data" / "measurements" / "mi300x-all_reduce-rccl-quickreduce.csv"
GOOD = SMALL.replace("name: small", "name: bad")


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
        ("import", "table.yaml", "--storage", "s.journal", "--baseline", "rccl"),
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
    assert again.returncode == 0, again.stderr
    points = done.stdout.partition(" with ")[2].partition(" imported")[0]
    assert f"{points} of them there already" in again.stdout
    other = ("--baseline", "quickreduce", "--min-gain", "0.1")
    refused = ccl_dispatch("import", str(MI300X), "--storage", "s.journal", *other, folder=tmp_path)
    assert refused.returncode == 2
    assert 'baseline: "rccl" against "quickreduce"' in refused.stderr
    assert "policy.min_gain: 0.03 against 0.1" in refused.stderr
    built = ccl_dispatch("build", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    assert "imported" in built.stdout
    judged = ccl_dispatch("evaluate", "t.yaml", str(MI300X), "--json", folder=tmp_path)
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout)["overall"]["table"]["mean"] >= 0


def test_a_copy_of_a_file_is_no_second_measurement(tmp_path: Path) -> None:
    """The same bytes under another name are left out, with a word about it."""
    (tmp_path / "copy.csv").write_bytes(MI300X.read_bytes())
    once = ccl_dispatch("import", str(MI300X), "--storage", "a.journal", "--baseline", "rccl", folder=tmp_path)
    words = ("import", str(MI300X), "copy.csv", "--storage", "b.journal", "--baseline", "rccl")
    twice = ccl_dispatch(*words, folder=tmp_path)
    assert twice.returncode == 0, twice.stderr
    assert f"copy.csv: holds the same as {MI300X}, left out" in twice.stderr
    assert twice.stdout.replace("b.journal", "a.journal") == once.stdout


def test_logs_of_two_backends_become_a_table(tmp_path: Path) -> None:
    """Two logs of rccl-tests are joined; the unit is said, also in the table, and garbage is told by line."""
    times = {1 << power: (100.0, 1.0) for power in range(4, 14)}
    (tmp_path / "rccl.log").write_text("\n".join(rccl_log(times)))
    faster = rccl_log(dict.fromkeys(times, (50.0, 1.0)))
    (tmp_path / "other.log").write_text("\n".join([*faster[:-6], "Segmentation fault", *faster[-6:]]))
    arguments = ("import", "rccl.log", "other.log", "--baseline", "rccl", "--storage", "s.journal")
    done = ccl_dispatch(*arguments, "--backend", "rccl", "--backend", "other", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rccl.log: all_gather_perf as rccl" in done.stderr
    assert "read as per-rank input bytes, 1/8 of them" in done.stderr
    assert f"other.log:{len(faster) - 5}: left out: no row of this table: 'Segmentation fault'" in done.stderr
    built = ccl_dispatch("build", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    table = load_table(tmp_path / "t.yaml")
    assert table.policy.timing == "back_to_back"
    assert table.dispatcher("all_gather", 8).select(64, "float16", "eager", "first") == "other"
    assert "1/8 of them" in table.evidence["imported_as"]["rccl.log"][0]
    alone = ccl_dispatch(*arguments, "--backend", "rccl", "--backend", "a", "--backend", "b", folder=tmp_path)
    assert alone.returncode == 2
    assert "given 3 times for 2 logs" in alone.stderr


def test_a_print_out_of_sglang_becomes_a_table(tmp_path: Path) -> None:
    """RCCL against AITER as SGLang's benchmark prints it, with the number of ranks given."""
    rows = [("bfloat16", f"({n}, 32320)", 0, n * 64640, "True", "30.00", "15.00") for n in range(1, 10)]
    (tmp_path / "sglang.txt").write_text("\n".join(sglang_log(rows)))
    arguments = ("import", "sglang.txt", "--baseline", "rccl", "--storage", "s.journal")
    assert "give --world-size" in ccl_dispatch(*arguments, folder=tmp_path).stderr
    done = ccl_dispatch(*arguments, "--world-size", "4", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    built = ccl_dispatch("build", "--storage", "s.journal", "--out", "t.yaml", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    dispatcher = load_table(tmp_path / "t.yaml").dispatcher("all_gather", 4)
    assert dispatcher.select(258560, "bfloat16", "eager", "first") == "aiter"


def test_doctor_names_every_backend_and_checks_what_is_ready(tmp_path: Path) -> None:
    """Doctor says of every backend whether it is ready here or why not, and that what is ready is right."""
    done = ccl_dispatch("doctor", "--json", folder=tmp_path)
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(facts["backends"]) == set(BACKENDS)
    ready = [name for name, reason in facts["backends"].items() if reason is None]
    assert {"gloo", "shm"} <= set(ready)
    assert list(facts["checks"]) == ready
    for name in ("gloo", "shm"):
        assert facts["checks"][name]["right"] == 12
        assert facts["checks"][name]["problems"] == []
    assert facts["platform"]["device_count"] >= 1


def test_doctor_can_leave_the_check_out(tmp_path: Path) -> None:
    """With --no-check no ranks are started, and the text has one line for each backend."""
    done = ccl_dispatch("doctor", "--no-check", folder=tmp_path)
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("backend ")] == [
        f"{name}:" for name in BACKENDS
    ]
    assert "bit for bit" not in done.stdout


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


def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    """A storage that is some other file is refused with 2, and not one byte of the file changes."""
    for content in (GOOD.encode(), b"hello\n", b'{"name": 1}', b"\xed\x00\n{}\n"):
        (tmp_path / "s.journal").write_bytes(content)
        done = _replay(tmp_path)
        assert done.returncode == 2, done.stderr
        assert "not a journal of Optuna" in done.stderr
        assert (tmp_path / "s.journal").read_bytes() == content


def test_what_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder, a pipe or another file as --storage, and a database to read that is not there: 2, and no file more."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "some.csv").write_text("a,b\n1,2\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "c.yaml").touch()
    before = sorted(tmp_path.rglob("*"))
    for storage, reason in (("folder", "is a folder"), ("pipe", "no plain file"), ("some.csv", "not a journal")):
        done = _replay(tmp_path, "--storage", storage, "--out", "t.yaml")
        assert done.returncode == 2, done.stderr
        assert reason in done.stderr
        assert len(done.stderr.splitlines()) == 1
    for verb in (("fleet",), ("build", "--out", "t.yaml"), ("export", "--out", "t.csv")):
        done = ccl_dispatch(*verb, "--storage", "sqlite:///no.db", folder=tmp_path)
        assert done.returncode == 2
        assert "there is no study at no.db" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_storage_or_table_in_an_impossible_place_is_told_before_measuring(tmp_path: Path) -> None:
    """Each ends with its code and one message, and nothing was measured."""
    (tmp_path / "a file").touch()
    for option, place, code in (
        ("--storage", "a file/s.journal", 2),
        ("--storage", "sqlite:////nowhere/s.db", 2),
        ("--out", "a file/t.yaml", 2),
        ("--out", ".", 2),
        ("--summary", "a file/s.json", 2),
    ):
        done = _replay(tmp_path, option, place)
        assert done.returncode == code, (place, done.stderr)
        assert done.stderr.startswith("ccl-dispatch sweep: ")
        assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.rglob("*.yaml")) == [tmp_path / "c.yaml"]


def test_a_first_try_without_samples_binds_nobody(tmp_path: Path) -> None:
    """After a config that this machine can't serve, the mended one uses the same storage."""
    (tmp_path / "bad.yaml").write_text(GOOD.replace("[2]", "[2, 4096]"))
    assert ccl_dispatch("sweep", "bad.yaml", folder=tmp_path).returncode == 2
    (tmp_path / "bad.yaml").write_text(GOOD)
    done = ccl_dispatch("sweep", "bad.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_loses_no_completed_point(tmp_path: Path) -> None:
    """When the journal can't grow the sweep ends with 3 and says so; with room again it ends as if nothing had been."""
    calm = _replay(tmp_path, "--out", "calm.yaml")
    assert calm.returncode == 0, calm.stderr
    whole = (tmp_path / "s.journal").stat().st_size
    (tmp_path / "s.journal").unlink()
    done = _replay(tmp_path, limit=whole // 2)
    assert done.returncode == 3
    assert "takes no more samples" in done.stderr
    assert "Traceback" not in done.stderr
    again = _replay(tmp_path, "--out", "again.yaml")
    assert again.returncode == 0, again.stderr
    assert load_table(tmp_path / "again.yaml").cells == load_table(tmp_path / "calm.yaml").cells


def _replay(folder: Path, *options: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """A replayed sweep that may write files of at most `limit` bytes."""
    (folder / "c.yaml").write_text(
        f"name: c\nbaseline: rccl\ncandidates: [quickreduce]\nreplay: {{file: {MI300X}, noise: 0.05}}\n"
    )
    storage = () if "--storage" in options else ("--storage", "s.journal")
    size = resource.RLIM_INFINITY if limit is None else limit
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        return ccl_dispatch("sweep", "c.yaml", "--quiet", *storage, *options, folder=folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
