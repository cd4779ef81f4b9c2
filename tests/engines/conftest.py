"""The engines' modules are fetched by `make test-engines`, which says where they lie; no other run collects these."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal, write_table

ENGINES = os.environ.get("CCL_DISPATCH_ENGINES", "")

if not ENGINES:
    collect_ignore_glob = ["test_*.py"]


def write_table_of_now(path: Path, up_to: int, dtypes: tuple[str, ...] = ("bfloat16",)) -> Path:
    """A table for this machine as it is now, at 2 and 4 ranks: AITER to `up_to` bytes in eager, above it in graphs with
    registered inputs, and to 512 bytes in graphs that stage them.
    """
    cells = [
        make_cell(Cell("all_gather", mode, "first", dtype, ranks), start, [end], ["aiter"])
        for dtype in dtypes
        for ranks in (2, 4)
        for mode, start, end in (("eager", 16, up_to), ("graph", up_to + 1, 1 << 20), ("graph_copy_in", 16, 512))
    ]
    table = make_table(tuple(cells))._replace(candidates=("aiter",), provenance="measured")
    write_table(seal(table._replace(platform=this_platform("cpu"))), path)
    return path


@pytest.fixture
def write() -> Callable[..., Path]:
    """Writes such a table."""
    return write_table_of_now


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """`good.yaml` takes AITER to 1 KiB in eager, `other.yaml` to 2 KiB."""
    write_table_of_now(tmp_path / "good.yaml", 1024)
    write_table_of_now(tmp_path / "other.yaml", 2048)
    return tmp_path


@pytest.fixture
def engine_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of this test find the engines and the stand-in for AITER, behind what the environment has."""
    monkeypatch.setattr("sys.path", [*sys.path, str(Path(__file__).parent / "stand_in"), ENGINES])
