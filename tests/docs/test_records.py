"""What the records keep is valid, and is what their pages say that it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import ROOT

from ccl_dispatch.runtime import load_table
from ccl_dispatch.runtime.platform import judge
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.tuner.cli import main
from ccl_dispatch.tuner.config.parsing import load_config
from ccl_dispatch.tuner.plan import make_plan
from ccl_dispatch.tuner.study import SweepStudy, open_storage

RECORDS = ROOT / "docs" / "records"


@pytest.mark.parametrize("name", ["shared-gpu", "known-failures"])
def test_the_records_are_valid_and_fit_nowhere(name: str) -> None:
    """Each recorded table is whole, is what its config asked for, names the GPU, and fits no machine."""
    table = load_table(RECORDS / f"{name}-table.yaml")
    plan = make_plan(load_config(RECORDS / f"{name}.yaml"))
    assert {cell.cell for cell in table.cells} == set(plan.cells.values())
    assert table.platform.device == "NVIDIA H100 80GB HBM3"
    assert table.platform.versions["aiter"] == "0+standin"
    assert "say nothing about speed" in table.evidence["note"]
    assert not judge(table, this_platform("cuda")).fits
    assert "exit code 0" in (RECORDS / f"{name}.txt").read_text()
    assert table.digest in (RECORDS / f"{name}.txt").read_text()


def test_the_record_holds_every_mode_without_a_wrong_output() -> None:
    """NCCL, symmetric memory and the stand-in were measured in all modes and both dims, with nothing excluded."""
    table = load_table(RECORDS / "shared-gpu-table.yaml")
    assert {cell.cell.mode for cell in table.cells} == {"eager", "graph", "graph_copy_in"}
    assert {cell.cell.world_size for cell in table.cells} == {2, 4}
    assert [cell for cell in table.cells if cell.exclusions] == []


def test_the_known_failures_are_excluded_with_their_reasons() -> None:
    """World size 6, int64, the misaligned last dim and the unwritten output each have their exclusion."""
    table = load_table(RECORDS / "known-failures-table.yaml")
    details = {item.reason + ": " + item.detail for cell in table.cells for item in cell.exclusions}
    for words in ("unsupported: AITER's all-gather has no kernel for 6", "not int64", "last dim of 2002", "unwritten)"):
        assert any(words in detail for detail in details), words


@pytest.mark.parametrize(("record", "points"), [("h100x2", 28), ("h200x2", 54)])
def test_the_table_of_two_gpus_is_that_of_its_study(record: str, points: int) -> None:
    """The table is whole and measured; its study, which is still read, has its points, cells and platform."""
    table = load_table(RECORDS / record / "table.yaml")
    with open_storage(str(RECORDS / record / "study.journal"), write=False) as storage:
        study = SweepStudy.load(storage, None)
        results = study.results()
    assert table.provenance == "measured"
    assert len(results) == points
    assert {result.cell for result in results} == {cell.cell for cell in table.cells}
    assert study.meta.platform == table.platform


@pytest.mark.parametrize(
    ("journal", "table"),
    [
        ("docs/records/h200x2/study.journal", "docs/records/h200x2/table.yaml"),
        ("tables/examples/x86_64-host_memory-2.journal", "tables/examples/x86_64-host_memory-2.yaml"),
    ],
)
def test_the_table_is_what_the_fit_makes_of_its_study(journal: str, table: str, tmp_path: Path) -> None:
    """To the byte, as pages say; where the fit has changed, `ccl-dispatch build` writes it again, and quotes follow."""
    built = tmp_path / "table.yaml"
    assert main(["build", "--storage", str(ROOT / journal), "--out", str(built)]) == 0
    assert built.read_text() == (ROOT / table).read_text()
