"""install on real ranks: the table is used on all of them, or on none."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_tables import make_cell, make_table
from ranks import run_ranks

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit import seal, write_table

INSTALL = """
import logging
logging.basicConfig(level=logging.WARNING, format="WARNING %(message)s", stream=sys.stdout)
from ccl_dispatch.runtime import install, uninstall
from ccl_dispatch.tuner.shared_memory import ShmCommunicator
communicator = ShmCommunicator(dist.group.WORLD)
source = sys.argv[4 + rank]
done = install(communicator, source if source != "none" else None)
small, large = torch.zeros(64, dtype=torch.bfloat16), torch.zeros(65536, dtype=torch.bfloat16)
print("active", bool(done), communicator.should_custom_ag(small), communicator.should_custom_ag(large))
again = install(communicator, source if source != "none" else None)
print("again", bool(again), communicator.should_custom_ag(small))
uninstall(communicator)
print("after", communicator.should_custom_ag(small), communicator.should_custom_ag(large))
"""


def _table(gain_to: int, platform_of_here: bool = True) -> Table:
    cell = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 16, [gain_to], ["aiter"])
    table = make_table((cell,))
    platform = this_platform("cpu") if platform_of_here else table.platform
    return seal(table._replace(candidates=("aiter",), provenance="measured", platform=platform))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Table files by what they are: good, another one, for another machine, corrupt, missing."""
    folder = tmp_path_factory.mktemp("tables")
    write_table(_table(1024), folder / "good.yaml")
    write_table(_table(2048), folder / "other.yaml")
    write_table(_table(1024, platform_of_here=False), folder / "elsewhere.yaml")
    (folder / "corrupt.yaml").write_text((folder / "good.yaml").read_text().replace("1024", "1040"))
    names = ("good", "other", "elsewhere", "corrupt", "missing")
    return {"none": "none", **{name: str(Path(folder) / f"{name}.yaml") for name in names}}


def test_ranks_that_agree_use_the_table(files: dict[str, str]) -> None:
    """With one table on both ranks the predicate follows it, twice installed or once, and uninstall puts it back."""
    for output in run_ranks(INSTALL, 2, files["good"], files["good"]):
        assert output.splitlines() == ["active True True False", "again True True", "after True True"]


@pytest.mark.parametrize("bad", ["other", "elsewhere", "corrupt", "missing", "none"])
def test_any_difference_puts_all_ranks_on_the_baseline(files: dict[str, str], bad: str) -> None:
    """Whatever one rank has instead of the table, both ranks say no to every call, and one of them says why, once."""
    outputs = run_ranks(INSTALL, 2, files["good"], files[bad])
    warnings = []
    for output in outputs:
        lines = output.splitlines()
        warnings += [line for line in lines if line.startswith("WARNING")]
        told = [line for line in lines if not line.startswith("WARNING")]
        assert told == ["active False False False", "again False False", "after True True"]
    assert len(warnings) == 2, "one warning for each of the two installations"
