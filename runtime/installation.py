"""Putting a table between a communicator and its callers, on all ranks alike or on none.

If the ranks of a job decide differently about one call, the job hangs. So nothing is switched before every rank has
told the others what it has, and whatever differs or fails on any rank puts all of them on the baseline. The one
exception is a rank whose communicator can't be changed: then no rank changes its own, since that is how all are alike.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import InstallError
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.platform import judge
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.table import Table

COLLECTIVE = "all_gather"

_log = logging.getLogger("ccl_dispatch")
_ORIGINAL = "ccl_dispatch_original"


class Installation(NamedTuple):
    """What `install` did; true in a condition when the table is in use.

    `active`: the table is asked. Otherwise every call uses the baseline, or, where a rank's communicator can't be
    changed, all of them stay as they were; `reason` says which and why.
    """

    active: bool
    reason: str
    digest: str
    candidate: str

    def __bool__(self) -> bool:
        return self.active


class _Claim(NamedTuple):
    """What one rank tells the others. `problem` is empty when the rank could use the table."""

    replaced: bool
    digest: str
    candidate: str
    world_size: int
    problem: str


class _Switch:
    """The replaced predicate's state: `ask` is None while the baseline is used."""

    __slots__ = ("ask",)

    def __init__(self) -> None:
        self.ask: Callable[[Any], bool] | None = None


def install(
    communicator: Any,
    table: Table | str | os.PathLike[str] | None,
    group: Any = None,
    *,
    candidate: str | None = None,
    strict: bool = False,
) -> Installation:
    """From now on `communicator.should_custom_ag(tensor)` is true only where the table chooses the candidate as well.

    Every rank of `group` must call this, also one that has no valid table: it takes part in the comparison, and then
    all ranks use the baseline.

    Args:
        communicator: anything with `should_custom_ag(tensor)`, such as AITER's `CustomAllreduce`.
        table: a table, or the file of one.
        group: a process group for CPU tensors (gloo) with the communicator's ranks; its own `group` by default.
        candidate: the table's name for this communicator; may be left out when the table has one candidate only.
        strict: raise after falling back, on every rank alike.

    Raises:
        InstallError: `strict` is set and the table is not in use.
    """
    switch = _Switch()
    claim, ask = _claim(communicator, table, candidate, switch)
    claims, rank, failure = _compare(communicator, group, claim)
    reason = failure or _disagreement(claims)
    if not reason:
        switch.ask = ask
        return Installation(active=True, reason="", digest=claim.digest, candidate=claim.candidate)
    if all(item.replaced for item in claims):
        reason = f"every call uses the baseline: {reason}"
    else:
        uninstall(communicator)
        reason = f"the communicators stay as they were, because not every rank's can be changed: {reason}"
    if rank == 0 or failure:
        _log.warning("ccl-dispatch: the table is not in use; %s", reason)
    if strict:
        raise InstallError(f"the table is not in use; {reason}")
    return Installation(active=False, reason=reason, digest=claim.digest, candidate=claim.candidate)


def uninstall(communicator: Any) -> bool:
    """Put the communicator's own predicate back; false when none of ours was there. Call it on every rank."""
    current = getattr(communicator, "should_custom_ag", None)
    if not hasattr(current, _ORIGINAL):
        return False
    original, own = getattr(current, _ORIGINAL)
    if own:
        communicator.should_custom_ag = original
    else:
        del communicator.should_custom_ag
    return True


def _claim(
    communicator: Any, source: Table | str | os.PathLike[str] | None, candidate: str | None, switch: _Switch
) -> tuple[_Claim, Callable[[Any], bool] | None]:
    """What this rank has to say, and its predicate, None when there is a problem.

    Every failure becomes the claim's problem, because the other ranks wait for it. After the comparison nothing is left
    that could fail on one rank alone.
    """
    digest = name = ""
    world_size = 0
    replaced = False
    try:
        _replace(communicator, switch)
        replaced = True
        world_size = int(communicator.world_size)
        if source is None:
            raise InstallError("no table was given")
        table = source if isinstance(source, Table) else load_table(source)
        # Taken anew: two tables that were made in memory may differ and carry no digest, or the same one.
        digest = digest_of(document_of(table))
        name = _candidate(table, candidate)
        verdict = judge(table, this_platform(table.platform.device_type))
        if not verdict.fits:
            raise InstallError("; ".join(finding.line() for finding in verdict.differs))
        ask = _predicate(communicator, table, name, world_size)
    except Exception as problem:  # noqa: BLE001 - whatever it is, this rank has to take part in the comparison
        return _Claim(replaced, digest, name, world_size, str(problem) or type(problem).__name__), None
    return _Claim(replaced, digest, name, world_size, ""), ask


def _candidate(table: Table, name: str | None) -> str:
    if name is None:
        if len(table.candidates) != 1:
            raise InstallError(
                f"the table has {len(table.candidates)} candidates ({', '.join(table.candidates)}); "
                "say which one this communicator is: install(..., candidate=NAME)"
            )
        return table.candidates[0]
    if name not in table.candidates:
        raise InstallError(f"the table has no candidate {name!r}, it has {', '.join(table.candidates) or 'none'}")
    return name


def _replace(communicator: Any, switch: _Switch) -> None:
    """Put our predicate in the place of the communicator's, answering "baseline" until the switch is set.

    Done before the ranks compare, so that a communicator that can't be changed is known by then.
    """
    current = communicator.should_custom_ag
    # Of a second installation the original is still the communicator's own, not our first predicate.
    original, own = getattr(current, _ORIGINAL, (current, "should_custom_ag" in getattr(communicator, "__dict__", {})))
    if not callable(original):
        raise InstallError("the communicator's should_custom_ag can't be called")

    def should_custom_ag(inp: Any) -> bool:
        ask = switch.ask
        return ask is not None and ask(inp)

    setattr(should_custom_ag, _ORIGINAL, (original, own))
    communicator.should_custom_ag = should_custom_ag


def _predicate(communicator: Any, table: Table, candidate: str, world_size: int) -> Callable[[Any], bool]:
    original = getattr(communicator.should_custom_ag, _ORIGINAL)[0]
    select = table.dispatcher(COLLECTIVE, world_size).select

    def ask(inp: Any) -> bool:
        try:
            # The table first: where it says baseline, the communicator's own checks need not be made.
            mode = "graph" if getattr(communicator, "_IS_CAPTURING", False) else "eager"
            size = inp.numel() * inp.element_size()
            return select(size, inp.dtype, mode) == candidate and bool(original(inp))
        except Exception:  # noqa: BLE001 - a predicate that fails must not take the serving process with it
            return False

    return ask


def _compare(communicator: Any, group: Any, claim: _Claim) -> tuple[list[_Claim], int, str]:
    """All ranks' claims, this one's rank in the group, and why they could not be had (empty when they could)."""
    try:
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return [claim], 0, "torch.distributed is not initialised, so the ranks can't be compared"
        if group is None:
            group = getattr(communicator, "group", None)
        if group is None:
            return (
                [claim],
                dist.get_rank(),
                "no group was given and the communicator has none to compare the ranks over",
            )
        backend = str(dist.get_backend(group))
        if "gloo" not in backend and "mpi" not in backend:
            return [claim], dist.get_rank(group), f"the group's backend is {backend}; a CPU group (gloo) is needed"
        size = dist.get_world_size(group)
        if not claim.problem and size != claim.world_size:
            claim = claim._replace(problem=f"the communicator has {claim.world_size} ranks, the group {size}")
        answers: list[Any] = [None] * size
        # A plain tuple of words and numbers: it must unpickle on a rank whose ccl-dispatch is another version.
        dist.all_gather_object(answers, tuple(claim), group=group)
        return [_Claim(*answer) for answer in answers], dist.get_rank(group), ""
    except Exception as problem:  # noqa: BLE001 - a failed comparison means the baseline, not a failed process
        return [claim], 0, f"the ranks could not be compared: {str(problem) or type(problem).__name__}"


def _disagreement(claims: list[_Claim]) -> str:
    """What keeps these ranks from using one table, in one sentence; empty when nothing does. The same on every rank."""
    problems = [f"rank {rank}: {claim.problem}" for rank, claim in enumerate(claims) if claim.problem]
    if problems:
        return "; ".join(problems)
    for field in ("digest", "candidate", "world_size"):
        values = [getattr(claim, field) for claim in claims]
        if len(set(values)) > 1:
            found = ", ".join(f"rank {rank} has {value}" for rank, value in enumerate(values))
            return f"the ranks differ in their table's {field}: {found}"
    return ""
