"""install on real ranks: the table is used on all of them, or on none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from made_tables import BASELINE, make_cell, make_table
from ranks import run_ranks

from ccl_dispatch.runtime import install, uninstall
from ccl_dispatch.runtime.errors import InstallError
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


FROZEN = """
import logging
logging.basicConfig(level=logging.WARNING, format="WARNING %(message)s", stream=sys.stdout)
from ccl_dispatch.runtime import install
class Communicator:
    world_size = 2
    def should_custom_ag(self, inp):
        return True
class Frozen(Communicator):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")
communicator = Frozen() if rank == 1 else Communicator()
done = install(communicator, sys.argv[4], dist.group.WORLD)
print(bool(done), communicator.should_custom_ag(torch.zeros(65536)), "can be changed" in done.reason)
"""


def test_where_one_communicator_cannot_be_changed_none_is(files: dict[str, str]) -> None:
    """A rank that must keep its own predicate makes all ranks keep theirs: alike, as they were, with one warning."""
    outputs = run_ranks(FROZEN, 2, files["good"])
    told = [line for output in outputs for line in output.splitlines()]
    assert sum(line.startswith("WARNING") for line in told) == 1
    assert [line for line in told if not line.startswith("WARNING")] == ["False True True"] * 2


STRICT = """
from ccl_dispatch.runtime import install
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


class Communicator:
    """What install needs of a communicator, with a predicate that says yes, no, or fails."""

    world_size = 1
    _IS_CAPTURING = False
    answer: bool | None = True

    def should_custom_ag(self, inp: object) -> bool:
        if self.answer is None:
            raise RuntimeError("the communicator is broken")
        return self.answer


@pytest.fixture
def lone_group() -> Iterator[dist.ProcessGroup]:
    """A gloo group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    group = dist.group.WORLD
    assert group is not None
    yield group
    dist.destroy_process_group()


def _modes() -> Table:
    """A table of world size 1 that takes the candidate for small eager calls and for large captured ones."""
    small = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 1), 16, [1024], ["aiter"])
    large = make_cell(Cell("all_gather", "graph", "first", "bfloat16", 1), 2048, [1 << 20], ["aiter"])
    table = make_table((small, large))
    return seal(table._replace(candidates=("aiter",), provenance="measured", platform=this_platform("cpu")))


def test_the_predicate_follows_mode_dtype_and_size(lone_group: dist.ProcessGroup) -> None:
    """Capture state, dtype and bytes of the tensor pick the cell and the band."""
    communicator = Communicator()
    assert install(communicator, _modes(), lone_group)
    small, large = torch.zeros(64, dtype=torch.bfloat16), torch.zeros(65536, dtype=torch.bfloat16)
    assert [communicator.should_custom_ag(tensor) for tensor in (small, large)] == [True, False]
    communicator._IS_CAPTURING = True
    assert [communicator.should_custom_ag(tensor) for tensor in (small, large)] == [False, True]
    assert not communicator.should_custom_ag(large.to(torch.float16))


def test_the_communicator_has_the_last_word(lone_group: dist.ProcessGroup) -> None:
    """Where its own predicate says no, or fails, or the argument is no tensor, the answer is the baseline."""
    communicator = Communicator()
    assert install(communicator, _modes(), lone_group)
    tensor = torch.zeros(64, dtype=torch.bfloat16)
    for communicator.answer in (False, None):
        assert communicator.should_custom_ag(tensor) is False
    communicator.answer = True
    assert communicator.should_custom_ag("no tensor") is False
    assert communicator.should_custom_ag(tensor) is True


def test_uninstall_leaves_no_trace(lone_group: dist.ProcessGroup) -> None:
    """A method of the class is one again, an attribute of the instance is that attribute again."""
    communicator = Communicator()
    install(communicator, _modes(), lone_group)
    install(communicator, _modes(), lone_group)
    assert uninstall(communicator)
    assert "should_custom_ag" not in vars(communicator)
    assert not uninstall(communicator)
    own = communicator.should_custom_ag = lambda inp: True  # type: ignore[method-assign]
    install(communicator, _modes(), lone_group)
    assert uninstall(communicator)
    assert communicator.should_custom_ag is own


def test_which_candidate_is_meant_must_be_clear(lone_group: dist.ProcessGroup) -> None:
    """With several candidates the caller names one; none, a wrong one or the baseline is the baseline, or an error."""
    table = seal(_modes()._replace(candidates=("aiter", "symm_mem")))
    tensor = torch.zeros(64, dtype=torch.bfloat16)
    communicator = Communicator()
    assert install(communicator, table, lone_group, candidate="aiter")
    assert communicator.should_custom_ag(tensor)
    assert install(communicator, table, lone_group, candidate="symm_mem")
    assert not communicator.should_custom_ag(tensor)
    for name in (None, "shm", BASELINE):
        assert not install(communicator, table, lone_group, candidate=name)
        assert not communicator.should_custom_ag(tensor)
        with pytest.raises(InstallError, match="candidate"):
            install(communicator, table, lone_group, candidate=name, strict=True)


def test_a_table_that_was_not_measured_is_not_installed(lone_group: dist.ProcessGroup) -> None:
    """Replayed figures come from no machine that could be this one."""
    done = install(Communicator(), seal(_modes()._replace(provenance="replayed")), lone_group)
    assert not done
    assert "provenance" in done.reason


def test_without_ranks_to_compare_with_the_baseline_is_used() -> None:
    """When torch.distributed is not set up, nothing is switched on, and the reason says so."""
    communicator = Communicator()
    done = install(communicator, _modes())
    assert not done
    assert "not initialised" in done.reason
    assert not communicator.should_custom_ag(torch.zeros(64, dtype=torch.bfloat16))
