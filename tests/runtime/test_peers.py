"""Who the ranks of a communicator are: the group that is asked, in its order, and what each kind of group offers."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from ccl_dispatch.runtime.errors import InstallError
from ccl_dispatch.runtime.peers import Peers, find_peers, world_size

STORE = dist.HashStore()


def _stateless(rank: int) -> SimpleNamespace:
    """A group as vLLM's stateless ones: plain attributes."""
    return SimpleNamespace(store=STORE, rank=rank, world_size=4)


class Asked:
    """A group that torch does not know, and that answers for itself."""

    def __init__(self, rank: int, size: int) -> None:
        self._of = rank, size

    def rank(self) -> int:
        return self._of[0]

    def size(self) -> int:
        return self._of[1]


class WithStore(Asked):
    def get_group_store(self) -> Any:
        return STORE


@pytest.fixture
def default_group() -> Iterator[None]:
    """This process as the one rank of torch's default group."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_the_group_that_is_given_goes_first_and_then_the_communicators_own() -> None:
    """Given, the communicator's, that of what it wraps: the first that is there, whatever the later ones are."""
    given, own, inner = map(_stateless, (1, 2, 3))
    wrapped = SimpleNamespace(group=inner)
    assert find_peers(SimpleNamespace(group=own, _impl=wrapped), given) == Peers(STORE, 1, 4)
    assert find_peers(SimpleNamespace(group=own, _impl=wrapped)) == Peers(STORE, 2, 4)
    assert find_peers(SimpleNamespace(group=None, _impl=wrapped)) == Peers(STORE, 3, 4)
    assert find_peers(SimpleNamespace(_impl=wrapped)) == Peers(STORE, 3, 4)
    assert find_peers(None, SimpleNamespace(cpu_group=given)) == Peers(STORE, 1, 4)


@pytest.mark.parametrize("lacks", ["store", "rank", "world_size"])
def test_a_group_that_lacks_one_of_three_is_not_taken_for_a_stateless_one(lacks: str) -> None:
    """It is asked like any other, and where it can't answer, told by its kind."""
    group = _stateless(1)
    delattr(group, lacks)
    with pytest.raises(InstallError, match="SimpleNamespace is no process group"):
        find_peers(None, group)


def test_a_group_that_torch_does_not_know_answers_for_itself() -> None:
    """Its rank, its size and its store; a group of one needs no store, and none but a member has a rank."""
    assert find_peers(None, WithStore(1, 2)) == Peers(STORE, 1, 2)
    assert find_peers(None, Asked(0, 1)) == Peers(None, 0, 1)
    with pytest.raises(InstallError, match="not a member"):
        find_peers(None, Asked(-1, 2))


@pytest.mark.parametrize("problem", [None, RuntimeError("it is closed"), RuntimeError()])
def test_a_group_without_a_store_says_what_each_way_to_it_gave(problem: Exception | None) -> None:
    """Its own method and torch's: what both said is told, an error without words by its kind."""

    class Without(Asked):
        def get_group_store(self) -> Any:
            if problem is not None:
                raise problem

    with pytest.raises(InstallError, match="has no store over which its ranks could be compared: ") as found:
        find_peers(None, Without(0, 2))
    told = str(found.value).partition("compared: ")[2].split("; ")
    expected = [] if problem is None else [str(problem) or "RuntimeError"]
    assert told[:-1] == expected
    assert told[-1], "what torch says of a group that it does not know"
    with pytest.raises(InstallError, match=r"has no store .*: .") as alone:
        find_peers(None, Asked(0, 2))
    assert "NoneType" not in str(alone.value)


def test_the_default_group_is_taken_where_it_has_as_many_ranks(default_group: None) -> None:
    """A communicator that does not say how many it has is taken to be of all; one that says otherwise is refused."""
    for communicator in (None, SimpleNamespace(), SimpleNamespace(world_size=1)):
        assert find_peers(communicator) == Peers(None, 0, 1)
    with pytest.raises(InstallError, match="default group has 1 ranks where the communicator has 4"):
        find_peers(SimpleNamespace(_impl=SimpleNamespace(world_size=4)))


def test_without_any_group_the_ranks_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before torch.distributed is initialised, and in a torch without it, each says so."""
    with pytest.raises(InstallError, match="is not initialised and no group was given"):
        find_peers(SimpleNamespace(world_size=1))
    monkeypatch.setattr(dist, "is_available", lambda: False)
    with pytest.raises(InstallError, match=r"has no torch\.distributed"):
        find_peers(SimpleNamespace(), _stateless(0))


def test_the_communicators_own_number_of_ranks_goes_before_the_wrapped_ones() -> None:
    """0 where neither says it in a number."""
    inner = SimpleNamespace(world_size=4)
    assert world_size(SimpleNamespace(world_size=2, _impl=inner)) == 2
    assert world_size(SimpleNamespace(world_size="2", _impl=inner)) == 4
    assert world_size(SimpleNamespace(_impl=SimpleNamespace())) == 0
    assert world_size(None) == 0
