"""`import` into a study that is there already."""

from __future__ import annotations

from pathlib import Path

from command import ccl_dispatch
from made_logs import rccl_log


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
