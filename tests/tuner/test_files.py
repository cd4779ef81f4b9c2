"""Files that are written whole or not at all."""

from __future__ import annotations

import os
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
