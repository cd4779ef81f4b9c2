"""The ranks that a communicator works with: which process group they are, and the store that they share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ccl_dispatch.runtime.errors import InstallError


class Peers(NamedTuple):
    """A group as the agreement needs it; `store` is None for a group of one."""

    store: Any
    rank: int
    size: int


def find_peers(communicator: Any, group: Any = None) -> Peers:
    """The peers of `communicator`.

    Looked at, in this order: `group`; the communicator's own `group`, or that of what it wraps (`_impl`, as in vLLM);
    the default group, when it has as many ranks as the communicator says. Only membership and the store are used, so a
    group of any backend will do, and so will anything with `store`, `rank` and `world_size`, such as vLLM's stateless
    groups, or with a `cpu_group`, such as the engines' coordinators.

    Raises:
        InstallError: there is none, or it has no store; says why.
    """
    import torch.distributed as dist

    if not dist.is_available():
        raise InstallError("this torch has no torch.distributed, so the ranks can't be compared")
    for candidate in _candidates(communicator, group):
        if candidate is not None:
            return _peers(dist, getattr(candidate, "cpu_group", candidate))
    if not dist.is_initialized():
        raise InstallError(
            "torch.distributed is not initialised and no group was given, so the ranks can't be compared"
        )
    ranks = world_size(communicator)
    if ranks not in (0, dist.get_world_size()):
        raise InstallError(
            f"no group was given, the communicator has none, and the default group has {dist.get_world_size()} ranks "
            f"where the communicator has {ranks}: pass install(..., group=...) with the communicator's ranks"
        )
    return _peers(dist, dist.group.WORLD)


def world_size(communicator: Any) -> int:
    """How many ranks the communicator, or what it wraps, says that it has; 0 when it does not say."""
    for place in (communicator, getattr(communicator, "_impl", None)):
        ranks = getattr(place, "world_size", None)
        if isinstance(ranks, int):
            return ranks
    return 0


def _candidates(communicator: Any, group: Any) -> Iterator[Any]:
    yield group
    yield getattr(communicator, "group", None)
    yield getattr(getattr(communicator, "_impl", None), "group", None)


def _peers(dist: Any, group: Any) -> Peers:
    if hasattr(group, "store") and hasattr(group, "rank") and hasattr(group, "world_size"):
        return Peers(group.store, int(group.rank), int(group.world_size))
    try:
        rank, size = dist.get_rank(group), dist.get_world_size(group)
    except Exception:  # noqa: BLE001 - a group that torch does not know of, such as vLLM's, answers for itself
        rank, size = _ask_itself(group)
    if rank < 0:
        raise InstallError("this process is not a member of the group")
    return Peers(None if size == 1 else _store(group), int(rank), int(size))


def _ask_itself(group: Any) -> tuple[int, int]:
    try:
        return int(group.rank()), int(group.size())
    except Exception as problem:  # noqa: BLE001 - it may be anything at all
        raise InstallError(f"{type(group).__name__} is no process group: {problem}") from None


def _store(group: Any) -> Any:
    from torch.distributed import distributed_c10d

    known = distributed_c10d._get_process_group_store  # noqa: SLF001 - older groups offer no method
    problems = []
    for ask in (getattr(group, "get_group_store", None), lambda: known(group)):
        if ask is None:
            continue
        try:
            store = ask()
        except Exception as problem:  # noqa: BLE001 - which of the two a group offers depends on how it was made
            problems.append(str(problem) or type(problem).__name__)
            continue
        if store is not None:
            return store
    raise InstallError(f"the group has no store over which its ranks could be compared: {'; '.join(problems)}")
