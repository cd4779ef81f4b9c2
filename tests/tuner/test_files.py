"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ccl_dispatch.tuner.files import write_in_one_step


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fails before the rename, the old contents stand and no temporary file is left."""
    target = tmp_path / "table.yaml"
    target.write_text("old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_in_one_step(str(target), "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.yaml"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_file_has_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """A result is readable for whom the umask lets read, though it was made as a private temporary file."""
    before = os.umask(umask)
    try:
        write_in_one_step(str(tmp_path / "x"), "text")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode
    assert (tmp_path / "x").read_text() == "text"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """The next writer of a file removes the part of one that was killed, and leaves that of one that still writes."""
    target = tmp_path / "table.yaml"
    begin = (
        "import os, sys\n"
        "from ccl_dispatch.tuner import files\n"
        "handle, path = files._own_part(sys.argv[1], 'table.yaml')\n"
        "os.write(handle, b'half a ta')\n"
        "print(path, flush=True)\n"
        "sys.stdin.read()\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", begin, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    dead, alive = (Path(process.stdout.readline().strip()) for process in writers if process.stdout)
    assert dead.read_text() == alive.read_text() == "half a ta"
    writers[0].kill()
    writers[0].wait()
    write_in_one_step(str(target), "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["table.yaml", alive.name])
    assert target.read_text() == "whole"
    for process in writers:
        process.communicate()


def test_behind_a_link_it_is_the_file_that_is_replaced(tmp_path: Path) -> None:
    """The link stays one, and what it leads to has the new text."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "real").write_text("old")
    (tmp_path / "link").symlink_to("folder/real")
    write_in_one_step(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "real").read_text() == "new"


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    """A pipe stays a pipe, and its reader gets the text."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        write_in_one_step(str(pipe), "text")
        assert reader.communicate(timeout=30)[0] == "text"
    assert pipe.is_fifo()
