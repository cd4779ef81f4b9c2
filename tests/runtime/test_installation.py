"""install on real ranks: the table is used on all of them, or on none."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_tables import make_cell, make_table
from ranks import run_ranks

from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal, write_table

INSTALL = """
import logging
logging.basicConfig(level=logging.WARNING, format="WARNING %(message)s", stream=sys.stdout)
from ccl_dispatch.runtime import counters, install, uninstall
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
    """Whatever one rank has instead of the table, over gloo's store both say no to every call, and one says why."""
    outputs = run_ranks(INSTALL, 2, files["good"], files[bad])
    warnings = []
    for output in outputs:
        lines = output.splitlines()
        warnings += [line for line in lines if line.startswith("WARNING")]
        told = [line for line in lines if line.startswith(("active", "again", "after"))]
        assert told == ["active False False False", "again False False", "after True True"]
    assert len(warnings) == 1, "the second installation has the same cause, which was told"


STRICT = """
from ccl_dispatch.runtime import install
from ccl_dispatch.runtime import installation
from ccl_dispatch.runtime.errors import InstallError
class Communicator:
    world_size = 2
    def should_custom_ag(self, inp):
        return True
communicator = Communicator()
try:
    install(communicator, sys.argv[4 + rank], dist.group.WORLD, strict=True)
except InstallError as problem:
    print("digest" in str(problem), communicator.should_custom_ag(torch.zeros(4)))
"""


def test_strict_raises_on_every_rank(files: dict[str, str]) -> None:
    """With strict set, both ranks of a disagreement raise, and both are on the baseline."""
    assert run_ranks(STRICT, 2, files["good"], files["other"]) == ["True False\n"] * 2


DIES = """
import os, time
from ccl_dispatch.runtime import install
class Communicator:
    world_size = 2
    def should_custom_ag(self, inp):
        return True
first, victim = sys.argv[5] == "first", int(sys.argv[6])
communicator = Communicator()
if rank == victim and first:
    os._exit(0)
begun = time.monotonic()
done = install(communicator, sys.argv[4], dist.group.WORLD, timeout=2)
print(done.state, communicator.should_custom_ag(torch.zeros(65536)), time.monotonic() - begun < 10, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_hangs_nobody(files: dict[str, str], victim: int) -> None:
    """Where a rank is gone before it could take part, also the one that had the store, the other goes on as it was."""
    outputs = run_ranks(DIES, 2, files["good"], "first", str(victim))
    assert outputs[victim] == ""
    assert outputs[1 - victim] == "as it was True True\n"


STOPS = """
import os, signal, threading, time
from ccl_dispatch.runtime import agreement, install
class Communicator:
    world_size = 2
    def should_custom_ag(self, inp):
        return True
pids = [None, None]
dist.all_gather_object(pids, os.getpid())
communicator = Communicator()
if rank == 0:
    # Stopped with the whole store, as by a debugger, just after this rank has come.
    real = agreement._Talk._wait
    def wait(self, keys, settled):
        if settled == "proposal":
            os.kill(os.getpid(), signal.SIGSTOP)
        real(self, keys, settled)
    agreement._Talk._wait = wait
else:
    time.sleep(1)
begun = time.monotonic()
done = install(communicator, sys.argv[4], dist.group.WORLD, timeout=1)
seconds = time.monotonic() - begun
os.kill(pids[0], signal.SIGCONT)
print(done.state, communicator.should_custom_ag(torch.zeros(65536)), rank == 0 or seconds < 8, flush=True)
time.sleep(3)
os._exit(0)
"""


def test_a_stopped_store_hangs_nobody(files: dict[str, str]) -> None:
    """While the process with the store is stopped the other waits no longer than its time; both stay as they were."""
    assert run_ranks(STOPS, 2, files["good"]) == ["as it was True True\n"] * 2
