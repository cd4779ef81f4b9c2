"""`explain` without a call: which table this machine takes, and why not the others, key by key."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from command import COMMAND
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit import write_table

CELLS = (make_cell(Cell("all_gather", "eager", "first", "bfloat16", 4), 16, [1024], ["aiter"]),)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder of tables: one of this machine, one of another, one that is broken."""
    folder = tmp_path / "ccl-dispatch" / "tables"
    folder.mkdir(parents=True)
    table = make_table(CELLS)._replace(provenance="measured", platform=this_platform("cpu"))
    write_table(table, folder / "good.yaml")
    write_table(table._replace(platform=table.platform._replace(architecture="riscv128")), folder / "other.yaml")
    (folder / "broken.yaml").write_text("schema: [")
    return tmp_path


def _explain(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "XDG_CONFIG_HOME": str(home), **environment}
    command = [*COMMAND, "explain", *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_table_that_was_looked_at_has_its_reasons(home: Path) -> None:
    """The taken one says so; one of another machine names the key and both values; a broken one its line."""
    done = _explain(home)
    assert done.returncode == 0, done.stderr
    for told in (
        "good.yaml: taken",
        "other.yaml: not taken, does not fit",
        "differs: architecture: the table has riscv128, this machine has ",
        "broken.yaml: not taken, not valid",
        "broken.yaml:2: not YAML",
        "same:    versions.torch",
    ):
        assert told in done.stdout, done.stdout
    found = json.loads(_explain(home, "--json").stdout)
    assert found["taken"].endswith("good.yaml")
    assert [item["fits"] for item in found["considered"]] == [False, True, False]


def test_a_named_table_is_judged_alone(home: Path) -> None:
    """By argument or by $CCL_DISPATCH_TABLE only that table is judged; one that is not taken is exit code 1."""
    other = str(home / "ccl-dispatch" / "tables" / "other.yaml")
    for done in (_explain(home, other), _explain(home, CCL_DISPATCH_TABLE=other)):
        assert done.returncode == 1, done.stderr
        assert "riscv128" in done.stdout
        assert "good.yaml" not in done.stdout
    assert _explain(home, "--shape", "4,4").returncode == 2
