"""The command `verify`: what it writes besides the verdict, where, and what becomes of the verdict when that fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from command import COMMAND, ccl_dispatch

from ccl_dispatch.tuner.cli.verify import _log_folder

Made = tuple[Path, dict[str, Path]]
FULL = ("--csv", "/dev/full")


def _words(made: Made, name: str, *more: str) -> tuple[str, ...]:
    table, configs = made
    return ("verify", str(table), "--config", str(configs[name]), "--seed", "3", *more)


@pytest.mark.parametrize(("name", "verdict", "code"), [("same", "still right", 3), ("slower", "drifted", 1)])
def test_a_side_file_that_fails_does_not_cost_the_verdict(
    made: Made, tmp_path: Path, name: str, verdict: str, code: int
) -> None:
    """The verdict is printed, the failure after it and in the JSON; the exit code is that of a drift, else 3."""
    said = ccl_dispatch(*_words(made, name, *FULL, "--quiet"), folder=tmp_path)
    assert said.returncode == code
    assert said.stdout.splitlines()[-1].startswith(f"{verdict}: of 1 cell ")
    (told,) = said.stderr.splitlines()
    assert told.startswith("ccl-dispatch verify: /dev/full: the measurements can't be written: No space left")
    again = ccl_dispatch(*_words(made, name, *FULL, "--quiet", "--json"), folder=tmp_path)
    found = json.loads(again.stdout)
    assert (again.returncode, found["verdict"], again.stderr.strip()) == (code, verdict, told)
    assert [f"ccl-dispatch verify: {problem}" for problem in found["failed"]] == [told]


def test_a_side_file_that_fails_keeps_nothing_else_from_being_done(made: Made, tmp_path: Path) -> None:
    """After a CSV that can't be written visits are kept, and what drifted is tuned anew."""
    words = _words(made, "same", *FULL, "--quiet", "--json", "--keep", "--reference", "r.json")
    kept = ccl_dispatch(*words, folder=tmp_path)
    assert kept.returncode == 3
    assert json.loads(kept.stdout)["kept"].startswith("r.json: ")
    assert (tmp_path / "r.json").is_file()
    out = tmp_path / "n.yaml"
    update = ccl_dispatch(
        *_words(made, "moved", *FULL, "--quiet", "--json", "--update", "--out", str(out)), folder=tmp_path
    )
    found = json.loads(update.stdout)
    assert (update.returncode, len(found["failed"]), found["update"]["table"]) == (1, 1, str(out))
    assert out.is_file()


def test_an_update_that_is_interrupted_does_not_cost_the_verdict(made: Made, tmp_path: Path) -> None:
    """After a Ctrl-C while it tunes anew the verdict is there as JSON, and the exit code is 130."""
    table, configs = made
    text = configs["moved"].read_text().replace("outliers: 0.01", "outliers: 0.01, pace: 5.0")
    slow = configs["moved"].with_name("slow.yaml")
    slow.write_text(text)
    words = ("verify", str(table), "--config", str(slow), "--json", "--update", "--out", str(tmp_path / "n.yaml"))
    with subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if ", update of " in line)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=20)
    found = json.loads(said)
    assert (process.returncode, found["verdict"], "update" in found) == (130, "now wrong", False)


def test_a_first_reference_can_be_made_anywhere(made: Made, tmp_path: Path) -> None:
    """--keep makes the file that --reference names, and adds to it from then on; without --keep it has to be there."""
    words = (*_words(made, "same", "--quiet", "--reference", "r.json"), "--seconds", "100")
    refused = ccl_dispatch(*words, folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "r.json: can't be read: No such file or directory. `verify --keep` makes it" in refused.stderr
    sets = []
    for _ in (0, 1):
        kept = ccl_dispatch(*words, "--keep", folder=tmp_path)
        assert kept.returncode == 0, kept.stderr
        sets.append(json.loads((tmp_path / "r.json").read_text())["sets"])
    assert sets[1] == 2 * sets[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--keep", "--reference", "/proc/r.json"), "the folder /proc can't be written: .* Give another --reference"),
        (("--keep", "--reference", "{table}"), "TABLE and --reference are the same file"),
        (("--logs", "/proc"), "logs can't be written in /proc, .* Give another --logs"),
        (("--logs", "a/b"), "the folder a/b is not there, .* or give another --logs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_could_not_be_written_is_said_before_anything_is_measured(
    made: Made, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    """With exit code 2 and the option that is to change; no folder is left."""
    table, _ = made
    done = ccl_dispatch(*_words(made, "same", *(word.format(table=table) for word in more)), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(words, done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_workers_log_beside_the_table_only_where_a_sweep_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Elsewhere in a folder of their own, which goes when nothing was logged, and is named when something was.

    So a folder of shipped tables gets no logs/ in it, and one that can't be written to is none that is needed.
    """
    table = tmp_path / "t.yaml"
    with _log_folder(None, table, replayed=False) as logs:
        (logs / "rank0.log").touch()
        assert logs.parent != tmp_path
    assert not logs.exists()
    assert list(tmp_path.iterdir()) == []
    with _log_folder(None, table, replayed=False) as logs:
        (logs / "rank0.log").write_text("a fault\n")
    assert (logs / "rank0.log").read_text() == "a fault\n"
    assert capsys.readouterr().err == f"the workers' logs are in {logs}\n"
    (tmp_path / "logs").mkdir()
    with _log_folder(None, table, replayed=False) as beside:
        assert beside == tmp_path / "logs"
    (tmp_path / "named").mkdir()
    with _log_folder(str(tmp_path / "named"), table, replayed=False) as named:
        assert named == tmp_path / "named"
    assert beside.is_dir()
    assert list(named.iterdir()) == list(beside.iterdir()) == []
    os.unlink(logs / "rank0.log")
    logs.rmdir()
