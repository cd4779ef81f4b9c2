"""`fleet` where there is nothing to compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import write_config


@pytest.mark.parametrize("storage", ["s.journal", "sqlite:///s.db"])
def test_on_a_storage_of_one_machine_the_advice_is_another(tmp_path: Path, storage: str) -> None:
    """Nobody is sent to run a sweep on another node with a storage that this node alone reaches."""
    config = write_config(tmp_path, 1)
    done = ccl_dispatch("sweep", str(config), "--quiet", "--storage", storage, "--out", "t.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = ccl_dispatch("fleet", "--storage", storage, folder=tmp_path)
    assert told.returncode == 2
    assert "lies on one machine" in told.stderr
    assert "one --storage that all of them reach, such as postgresql://" in told.stderr
    assert "with this --storage on another node" not in told.stderr
