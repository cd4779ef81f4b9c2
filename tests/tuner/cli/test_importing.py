"""`import` into a study that is there already."""

from __future__ import annotations

import shlex
from pathlib import Path

from command import ccl_dispatch
from made_logs import rccl_log
from postgres import PostgresServer


def test_another_import_into_a_study_names_the_files_and_no_more(tmp_path: Path) -> None:
    """The message is about files: not how each line of each was read, which differs because the files do."""
    for name, times in {"one.log": (8.0, 9.0), "two.log": (5.0, 6.0), "later.log": (5.1, 6.1)}.items():
        (tmp_path / name).write_text("\n".join(rccl_log({64: times, 128: times})) + "\n")
    into = ("--backend", "rccl", "--backend", "mine", "--baseline", "rccl", "--storage", "s.journal")
    assert ccl_dispatch("import", "one.log", "two.log", *into, folder=tmp_path).returncode == 0
    told = ccl_dispatch("import", "one.log", "later.log", *into, folder=tmp_path)
    assert told.returncode == 2
    message = told.stderr.splitlines()[-1]
    assert "what differs, the study's first: files: one.log (sha256 " in message
    assert " against later.log (sha256 " in message
    assert "Import all files that belong together in one call" in message
    assert "out_of_place" not in message
    assert len(message) < 400


def test_an_import_into_a_database_says_what_comes_next_and_no_password(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    """The command that makes the table has the storage and the study; neither it nor a refusal has the password."""
    url = postgres_server.database().replace("@/", ":s3cret@/", 1)
    for name, times in {"one.log": (8.0, 9.0), "two.log": (5.0, 6.0), "later.log": (5.1, 6.1)}.items():
        (tmp_path / name).write_text("\n".join(rccl_log({64: times, 128: times})) + "\n")
    into = ("--backend", "rccl", "--backend", "mine", "--baseline", "rccl", "--storage", url)
    done = ccl_dispatch("import", "one.log", "two.log", *into, folder=tmp_path)
    refused = ccl_dispatch("import", "one.log", "later.log", *into, folder=tmp_path)
    assert (done.returncode, refused.returncode) == (0, 2), done.stderr
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr):
        assert "s3cret" not in text
    verb, *words = shlex.split(done.stdout.splitlines()[-1].partition("next: ccl-dispatch ")[2])
    given = [word.replace("***", "s3cret") for word in words]
    assert ccl_dispatch(verb, *given, folder=tmp_path).returncode == 0
    assert (tmp_path / "table.yaml").is_file()
