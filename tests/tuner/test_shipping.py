"""What may lie in tables/: each defect keeps a table out, and all that lie there are without any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ccl_dispatch
from made_tables import make_cell, make_table

from ccl_dispatch.runtime.errors import TableError
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit import write_table
from ccl_dispatch.tuner.shipping import shipped_name, shipping_problems

SHIPPED = sorted((Path(__file__).parents[2] / "tables").glob("*.yaml"))
EVIDENCE: dict[str, Any] = {
    "study": "made up",
    "config_digest": "sha256:0",
    "trials": 3,
    "samples": 90,
    "executions": {"rccl": 90, "aiter": 90},
    "measured_from": "2026-01-01T00:00:00Z",
    "measured_to": "2026-01-01T00:01:00Z",
}


def _good() -> Table:
    """A table that would be shipped if its figures were not made up."""
    table = make_table((make_cell(Cell("all_gather", "eager", "first", "bfloat16", 8), 16, [1024], ["aiter"]),))
    platform = table.platform._replace(device_type="cuda", architecture="gfx942:sramecc+", link="XGMI")
    return table._replace(provenance="measured", evidence=EVIDENCE, platform=platform)


def test_a_measured_table_with_its_evidence_may_be_shipped(tmp_path: Path) -> None:
    """Nothing is said of it, and `validate --shipped` ends with 0."""
    path = tmp_path / "gfx942-xgmi-8.yaml"
    assert shipped_name(write_table(_good(), path)) == path.name
    assert shipping_problems(path) == []
    assert ccl_dispatch("validate", "--shipped", path.name, folder=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table._replace(provenance="replayed"), "only measured tables are shipped"),
        (lambda table: table._replace(evidence={"note": "x"}), "evidence has no study, config_digest"),
        (lambda table: table._replace(evidence=EVIDENCE | {"samples": 0}), "evidence has no samples"),
        (lambda table: table._replace(evidence=EVIDENCE | {"executions": {"rccl": 1}}), "executions has none of aiter"),
        (lambda table: table._replace(platform=table.platform._replace(versions={})), "platform has no versions"),
        (lambda table: table._replace(platform=table.platform._replace(device="")), "platform has no device"),
        (lambda table: table._replace(platform=table.platform._replace(link="PCIe")), "called gfx942-pcie-8.yaml"),
        (lambda table: table._replace(cells=()), "it has no cells"),
    ],
)
def test_each_defect_is_told(tmp_path: Path, change: Callable[[Table], Table], words: str) -> None:
    """A table with one thing missing is refused for that, and `validate --shipped` ends with 1 and says it."""
    path = tmp_path / "gfx942-xgmi-8.yaml"
    write_table(change(_good()), path)
    (problem,) = shipping_problems(path)
    assert words in problem
    done = ccl_dispatch("validate", "--shipped", path.name, folder=tmp_path)
    assert done.returncode == 1
    assert words in done.stdout


def test_another_form_of_the_same_table_is_not_canonical(tmp_path: Path) -> None:
    """A comment more changes no meaning and no digest, and is refused all the same."""
    path = tmp_path / "gfx942-xgmi-8.yaml"
    write_table(_good(), path)
    path.write_text("# mine\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert shipping_problems(path) == [
        "not in the form that this version writes: write it again with `ccl-dispatch build`"
    ]
    path.write_bytes(b"\xff")
    with pytest.raises(TableError, match="not UTF-8"):
        shipping_problems(path)


def test_every_table_in_the_folder_may_be_shipped() -> None:
    """Of all tables that come with the package none has a problem."""
    assert [(path.name, problems) for path in SHIPPED if (problems := shipping_problems(path))] == []
