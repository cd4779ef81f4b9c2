"""install in a process that is alone: what the predicate asks, whom it believes, and what is told."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from made_tables import BASELINE, make_cell, make_table

from ccl_dispatch.runtime import counters, install, uninstall
from ccl_dispatch.runtime.errors import InstallError
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.recording import recorder_of
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal, write_table


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


def test_a_copy_that_was_not_installed_uses_its_table(
    lone_group: dist.ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a zip file, say, there is nothing that tells the version. Every table was refused for it."""

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert install(Communicator(), _modes(), lone_group)


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


def test_without_ranks_to_compare_with_nothing_changes() -> None:
    """Where torch.distributed is not set up nobody can be asked: the communicator stays as it was, or strict raises."""
    communicator = Communicator()
    done = install(communicator, _modes())
    assert not done
    assert "not initialised" in done.reason
    assert "should_custom_ag" not in vars(communicator)
    with pytest.raises(InstallError, match="not initialised"):
        install(communicator, _modes(), strict=True)


def test_what_a_lone_rank_could_not_ask_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was changed, so no rank can be apart: it is no error and no reason to restart."""
    assert install(Communicator(), _modes()).state == "as it was"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("communicator", [None, SimpleNamespace(disabled=True), SimpleNamespace(world_size=1)])
def test_a_group_that_never_uses_a_candidate_is_no_fault(
    lone_group: dist.ProcessGroup, communicator: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a communicator, with one that is disabled, or has no such check, on all ranks: nothing is changed, nobody
    has to be told, and strict does not raise. A reason of the caller's is one as well, and a table does not matter.
    """
    done = install(communicator, "no such table", lone_group, strict=True)
    assert (bool(done), done.state, caplog.text) == (False, "as it was", "")
    assert "communicator" in done.reason
    stuck = install(Communicator(), _modes(), lone_group, stuck="the engine captures here", strict=True)
    assert (stuck.state, "the engine captures here" in stuck.reason) == ("as it was", True)
    assert stuck.digest == stuck.candidate == ""


def test_strict_raises_on_a_rank_that_has_no_communicator_where_another_has_one() -> None:
    """All are on the baseline then, for the sake of the one that always is: no rank may go on as if that was asked."""
    store = dist.HashStore()

    def rank(number: int) -> str:
        group = SimpleNamespace(store=store, rank=number, world_size=2)
        communicator = Communicator() if number else None
        if communicator is not None:
            communicator.world_size = 2
        try:
            return install(communicator, _modes(), group, strict=True, timeout=20).state
        except InstallError as problem:
            return str(problem)

    with ThreadPoolExecutor(2) as ranks:
        first, second = ranks.map(rank, range(2))
    assert first == second
    assert "every call uses the baseline: rank 0: there is no communicator" in first


def test_a_table_without_this_world_size_is_not_in_use(lone_group: dist.ProcessGroup) -> None:
    """It would choose the baseline for every call, and nobody would be told."""
    other = make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 16, [1024], ["aiter"])
    done = install(Communicator(), seal(_modes()._replace(cells=(other,))), lone_group)
    assert (done.state, "no all_gather cell for 1 ranks, it has 2" in done.reason) == ("baseline", True)


def test_a_table_in_use_has_no_reason_against_it(lone_group: dist.ProcessGroup) -> None:
    """What install says then is which table is used, and for whom."""
    table = _modes()
    done = install(Communicator(), table, lone_group)
    assert done[:5] == (True, "table", "", table.digest, "aiter")
    assert not install(Communicator(), seal(table._replace(provenance="replayed")), lone_group).counts()


def test_ranks_that_a_communicator_does_not_tell_are_the_groups() -> None:
    """A communicator without a number of ranks is taken to have the group's; one with another number is refused."""
    group = SimpleNamespace(store=None, rank=0, world_size=1)
    silent, other = Communicator(), Communicator()
    silent.world_size = None  # type: ignore[assignment]
    other.world_size = 2
    assert install(silent, _modes(), group)
    assert "the communicator has 2 ranks, the group 1" in install(other, _modes(), group).reason


@pytest.mark.parametrize(
    ("own", "wrapped", "label"),
    [("tp:0", "pp:0", "tp:0"), (None, "pp:0", "pp:0"), ("", None, "1 ranks"), (None, None, "1 ranks")],
)
def test_an_installation_has_the_name_of_its_group(
    lone_group: dist.ProcessGroup, own: str | None, wrapped: str | None, label: str
) -> None:
    """Its counts are told apart by it: the communicator's group, that of what it wraps, else the number of ranks."""

    def named(description: str | None) -> SimpleNamespace | None:
        return None if description is None else SimpleNamespace(group_desc=description or None)

    communicator = Communicator()
    communicator.group, communicator._impl = named(own), SimpleNamespace(group=named(wrapped))  # type: ignore[attr-defined]
    done = install(communicator, _modes(), lone_group)
    assert done.counters is not None
    assert done.counters.label == label


def test_a_group_is_found_where_none_is_given(lone_group: dist.ProcessGroup) -> None:
    """The communicator's own group, that of what it wraps, or the default one when it has as many ranks."""
    table = _modes()
    for own, wrapped in ((lone_group, None), (None, lone_group), (None, None)):
        communicator = Communicator()
        communicator.group = own  # type: ignore[attr-defined]
        communicator._impl = SimpleNamespace(group=wrapped)  # type: ignore[attr-defined]
        assert install(communicator, table)
    communicator = Communicator()
    communicator.world_size = 2
    assert "default group has 1 ranks where the communicator has 2" in install(communicator, table).reason
    assert "is no process group" in install(Communicator(), table, object()).reason


def test_wrappers_are_seen_through(lone_group: dist.ProcessGroup) -> None:
    """Of a wrapper such as vLLM's, world size, capture state and group are those of what it has inside."""

    class Wrapper:
        def __init__(self, inner: Communicator) -> None:
            self._impl = inner

        def should_custom_ag(self, inp: torch.Tensor) -> bool:
            return self._impl.should_custom_ag(inp)

    inner = Communicator()
    wrapper = Wrapper(inner)
    assert install(wrapper, _modes())
    large = torch.zeros(65536, dtype=torch.bfloat16)
    assert not wrapper.should_custom_ag(large)
    inner._IS_CAPTURING = True
    assert wrapper.should_custom_ag(large)
    assert uninstall(wrapper)
    assert "should_custom_ag" not in vars(wrapper)


def test_counts_can_be_read_at_any_time(lone_group: dist.ProcessGroup) -> None:
    """Each decision is one count of its cell and answer: by the table, refused by the communicator, or failed."""
    communicator = Communicator()
    done = install(communicator, _modes(), lone_group)
    small, large = torch.zeros(64, dtype=torch.bfloat16), torch.zeros(65536, dtype=torch.bfloat16)
    for tensor in (small, small, large, small.float(), "no tensor"):
        communicator.should_custom_ag(tensor)
    communicator.answer = False
    communicator.should_custom_ag(small)
    communicator._IS_CAPTURING = True
    communicator.should_custom_ag(small)
    found = {(count.cell.mode, count.cell.dtype, count.answer): count.calls for count in done.counts()}
    assert found == {
        ("eager", "bfloat16", "aiter"): 2,
        ("eager", "bfloat16", BASELINE): 1,
        ("eager", "bfloat16", "refused"): 1,
        ("eager", "other", BASELINE): 1,
        ("graph", "bfloat16", BASELINE): 1,
        ("", "other", "failed"): 1,
    }
    # Those of the whole process: other tests' installations may live still, and count for the same cells.
    everywhere = {(count.cell, count.answer): count.calls for count in counters()}
    assert all(everywhere[count.cell, count.answer] >= count.calls for count in done.counts())


def test_the_switch(lone_group: dist.ProcessGroup, caplog: pytest.LogCaptureFixture) -> None:
    """Off touches nothing, strict raises, and what is no state of the switch counts as off, with a warning."""
    for state in ("off", "0"):
        communicator = Communicator()
        done = install(communicator, _modes(), lone_group, environ={"CCL_DISPATCH": state})
        assert done == (False, "off", "switched off by $CCL_DISPATCH", "", "", None)
        assert vars(communicator) == {}
    assert "'0', expected one of off, on, strict, record" in caplog.text
    replayed = seal(_modes()._replace(provenance="replayed"))
    with pytest.raises(InstallError, match="provenance"):
        install(Communicator(), replayed, lone_group, environ={"CCL_DISPATCH": "STRICT"})
    assert install(Communicator(), _modes(), lone_group, environ={"CCL_DISPATCH": "strict"})


def test_what_only_counts_uses_no_table(lone_group: dist.ProcessGroup, tmp_path: Path) -> None:
    """An installation that records, or could not, is none of a table and has no counts of one."""
    environ = {"CCL_DISPATCH": "record", "CCL_DISPATCH_RECORD": str(tmp_path)}
    done = install(Communicator(), _modes(), lone_group, environ=environ)
    assert (done.active, done.state, done[3:]) == (False, "recording", ("", "", None))
    assert str(tmp_path) in done.reason
    recorder_of(str(tmp_path)).close()
    failed = install(None, _modes(), lone_group, environ=environ)
    assert failed == (False, "as it was", "nothing is recorded: there is no communicator", "", "", None)


def test_without_a_table_nothing_changes(
    lone_group: dist.ProcessGroup, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no table was named and none is found nothing is touched and nothing is said, unless strict."""
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path)}
    communicator = Communicator()
    done = install(communicator, group=lone_group, environ=nowhere)
    assert (done.state, vars(communicator), caplog.text) == ("as it was", {}, "")
    with pytest.raises(InstallError, match="no table fits"):
        install(communicator, group=lone_group, environ={**nowhere, "CCL_DISPATCH": "strict"})
    assert caplog.text.count("no table fits") == 1, "who asks for strict expects a table"
    folder = tmp_path / "ccl-dispatch" / "tables"
    folder.mkdir(parents=True)
    elsewhere = _modes()._replace(platform=this_platform("cpu")._replace(architecture="riscv128"))
    write_table(elsewhere, folder / "elsewhere.yaml")
    assert install(communicator, group=lone_group, environ=nowhere).state == "as it was"
    assert "riscv128" in caplog.text, "somebody put a table there and expects it to be used"


def test_an_edited_table_is_refused_or_told(
    lone_group: dist.ProcessGroup, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A hand-edited table is refused; with the policy `warn` it is used as it stands and a warning names the line, but
    not in strict mode.
    """
    edited = tmp_path / "edited.yaml"
    write_table(_modes(), edited)
    edited.write_text(
        edited.read_text().replace("up_to: 1024", "up_to: 1008").replace("measured_to: 1024", "measured_to: 1008")
    )
    assert "edited after it was made" in install(Communicator(), edited, lone_group, environ={}).reason
    caplog.clear()
    environ = {"CCL_DISPATCH_EDITED": "warn"}
    communicator = Communicator()
    done = install(communicator, edited, lone_group, environ=environ)
    assert done
    assert done.digest != _modes().digest
    assert f"{edited}:" in caplog.text
    assert communicator.should_custom_ag(torch.zeros(504, dtype=torch.bfloat16))
    assert not communicator.should_custom_ag(torch.zeros(512, dtype=torch.bfloat16))
    with pytest.raises(InstallError, match="edited"):
        install(communicator, edited, lone_group, environ={**environ, "CCL_DISPATCH": "strict"})


def test_what_is_wrong_for_every_group_is_told_once(
    lone_group: dist.ProcessGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that makes five groups tells of a variable, of a broken and of an edited table once each."""
    folder = tmp_path / "ccl-dispatch" / "tables"
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("schema: another\n")
    write_table(_modes(), folder / "edited.yaml")
    edited = (folder / "edited.yaml").read_text().replace("up_to: 1024", "up_to: 1008", 1)
    (folder / "edited.yaml").write_text(edited.replace("measured_to: 1024", "measured_to: 1008", 1))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CCL_DISPATCH_TIMEOUT", "half an hour")
    monkeypatch.setenv("CCL_DISPATCH_EDITED", "warn")
    monkeypatch.delenv("CCL_DISPATCH_TABLE", raising=False)
    for _ in range(5):
        assert install(Communicator(), group=lone_group)
    for words in ("$CCL_DISPATCH_TIMEOUT is 'half an hour'", "is left out: ", "taken as it is"):
        assert caplog.text.count(words) == 1, caplog.text
