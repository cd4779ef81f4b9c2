"""Putting a table between a communicator and its callers, on all ranks alike or on none.

If the ranks of a job decide differently about one call, the job hangs. So every rank says what it has, one verdict is
settled for all (`agreement.py`), and only then a rank changes its communicator. There are three ways to be alike: the
table; the baseline for every call; and as it was, which is also where a rank is that never takes part.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccl_dispatch.runtime.agreement import AS_IT_WAS, Outcome, Proposal, agree
from ccl_dispatch.runtime.claims import (
    CAN_SWITCH,
    HAS_NONE,
    KEEPS_ITS_OWN,
    NONE_FITS,
    NOTHING_THERE,
    USE_TABLE,
    Claim,
    judge,
)
from ccl_dispatch.runtime.counting import Count, Counters
from ccl_dispatch.runtime.digest import digest_of, document_of
from ccl_dispatch.runtime.errors import AbsentTableError, InstallError
from ccl_dispatch.runtime.find import find_table
from ccl_dispatch.runtime.load import read_file
from ccl_dispatch.runtime.patience import SECONDS
from ccl_dispatch.runtime.peers import Peers, find_peers
from ccl_dispatch.runtime.peers import world_size as ranks_of
from ccl_dispatch.runtime.platform import judge as judge_platform
from ccl_dispatch.runtime.predicate import (
    COLLECTIVE,
    Modes,
    Predicate,
    make_opaque,
    make_predicate,
    mode_of,
    own_modes,
)
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.switch import Switch, read_switch, seconds
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.telling import warn_once
from ccl_dispatch.runtime.version import version

_log = logging.getLogger("ccl_dispatch")
_METHOD = "should_custom_ag"
_ORIGINAL = "ccl_dispatch_original"


class Installation(NamedTuple):
    """What `install` did; true in a condition when the table is in use.

    Attributes:
        active: the table is asked.
        state: `table`; `baseline`: every call uses the baseline; `as it was`: nothing was changed by this call;
            `recording`; `off`.
        reason: why the table is not in use; empty when it is.
        digest: of the table, empty when there is none.
        candidate: what the table calls the communicator.
    """

    active: bool
    state: str
    reason: str
    digest: str
    candidate: str
    counters: Counters | None = None

    def __bool__(self) -> bool:
        return self.active

    def counts(self) -> tuple[Count, ...]:
        """How often each answer was given so far; empty where no table is in use."""
        return self.counters.read() if self.counters is not None else ()


class _Prepared(NamedTuple):
    """A rank's claim, and what it would use if all ranks can."""

    claim: Claim
    predicate: Predicate | None
    counters: Counters | None


def install(
    communicator: Any,
    table: Table | str | os.PathLike[str] | None = None,
    group: Any = None,
    *,
    candidate: str | None = None,
    strict: bool = False,
    timeout: float | None = None,
    modes: Modes | None = None,
    stuck: str = "",
    environ: Mapping[str, str] | None = None,
) -> Installation:
    """From now on `communicator.should_custom_ag(tensor)` is true only where the table chooses the candidate as well.

    Every rank of the group calls this, in the same order where there are several communicators; also a rank that has no
    valid table. A rank that does not call it, or not in time, leaves all ranks as they were, at this call and at later
    ones over the same group. Calls belong together by their count in the group: who has no communicator passes None.

    Args:
        communicator: anything with `should_custom_ag(tensor)`: AITER's `CustomAllreduce`, vLLM's wrapper around it,
            `ShmCommunicator`; None on a rank that has none and still takes part.
        table: a table, or the file of one; without one, the table for this machine (`load_table()`).
        group: a process group of the communicator's ranks; by default what `peers.find_peers` finds.
        candidate: the table's name for this communicator; may be left out when the table has one candidate only.
        strict: raise where the table can't be used, on every rank alike.
        timeout: seconds to wait for the slowest rank, up to 3600; $CCL_DISPATCH_TIMEOUT or 30 by default.
        modes: how calls run by capture state; AITER's own way by default.
        stuck: why this rank always uses the baseline, whatever its communicator says; empty when it does not.
        environ: the environment variables; this process's own by default.

    Returns:
        What was done. With $CCL_DISPATCH `off` nothing is; with `record` calls are counted and nothing else.

    Raises:
        InstallError: strict (the argument, or $CCL_DISPATCH=strict) and the table is not in use.
    """
    switch = read_switch(environ)
    if switch.state == "off":
        return Installation(False, "off", "switched off by $CCL_DISPATCH", "", "")
    modes = modes or own_modes(communicator)
    if switch.state == "record":
        return _record(communicator, group, switch, modes, stuck)
    strict = strict or switch.state == "strict"
    try:
        peers = find_peers(communicator, group)
    except Exception as problem:  # noqa: BLE001 - without peers nothing may change, whatever kept them from being found
        return _conclude(_alone(_words(problem)), None, communicator, strict)
    try:
        switch = switch._replace(state="strict" if strict else "on")
        prepared = _prepare(communicator, table, candidate, switch, modes, peers, stuck, environ)
    except Exception as problem:  # noqa: BLE001 - this rank has to take part, whatever has happened to it
        prepared = _Prepared(_claim(KEEPS_ITS_OWN, _words(problem)), None, None)
    outcome = agree(
        peers.store,
        peers.rank,
        peers.size,
        list(prepared.claim),
        judge,
        switch.timeout if timeout is None else seconds(timeout, "install's timeout", switch.timeout),
    )
    return _conclude(outcome, prepared, communicator, strict, peers.rank)


def uninstall(communicator: Any) -> bool:
    """Put the communicator's own predicate back; false when none of ours was there. Call it on every rank."""
    current = getattr(communicator, _METHOD, None)
    if not hasattr(current, _ORIGINAL):
        return False
    original, own = getattr(current, _ORIGINAL)
    if own:
        setattr(communicator, _METHOD, original)
    else:
        delattr(communicator, _METHOD)
    return True


def _prepare(
    communicator: Any,
    source: Table | str | os.PathLike[str] | None,
    candidate: str | None,
    switch: Switch,
    modes: Modes,
    peers: Peers,
    stuck: str,
    environ: Mapping[str, str] | None,
) -> _Prepared:
    """All that can fail, before the ranks compare: afterwards nothing is left that could fail on one rank alone."""
    stuck = stuck or _why_stuck(communicator)
    if stuck:
        return _Prepared(_claim(HAS_NONE, stuck), None, None)
    try:
        original = _try_to_replace(communicator)
    except Exception as problem:  # noqa: BLE001 - a communicator may refuse in any way it likes
        return _Prepared(_claim(KEEPS_ITS_OWN, f"its communicator can't be changed: {_words(problem)}"), None, None)
    # Where the communicator does not say how many ranks it has, the group does.
    ranks = ranks_of(communicator) or peers.size
    claim = _claim(CAN_SWITCH, "")._replace(world_size=ranks)
    try:
        if ranks != peers.size:
            raise InstallError(f"the communicator has {ranks} ranks, the group {peers.size}")
        table = _table(source, switch, environ)
        # Taken anew: two tables that were made in memory may differ and carry no digest, or the same one.
        claim = claim._replace(digest=digest_of(document_of(table)))
        claim = claim._replace(candidate=_candidate(table, candidate), settings=_settings(switch, modes))
        verdict = judge_platform(table, this_platform(table.platform.device_type, environ))
        if not verdict.fits:
            raise InstallError("; ".join(finding.line() for finding in verdict.differs))
        _check_world_size(table, ranks)
        predicate, counters = make_predicate(
            communicator, original, table, claim.candidate, ranks, modes, label=_label(communicator, peers)
        )
    except AbsentTableError as problem:
        absent = NONE_FITS if problem.others or switch.state == "strict" else NOTHING_THERE
        return _Prepared(claim._replace(problem=_words(problem), absent=absent), None, None)
    except Exception as problem:  # noqa: BLE001 - see install
        return _Prepared(claim._replace(problem=_words(problem)), None, None)
    return _Prepared(claim, predicate, counters)


def _conclude(
    outcome: Outcome, prepared: _Prepared | None, communicator: Any, strict: bool, rank: int = 0
) -> Installation:
    """Do what was agreed on, tell it if it is for this rank to tell, and raise in strict mode."""
    decision, reason, quiet, speaker, _ = outcome.proposal
    claim = prepared.claim if prepared is not None else _claim(KEEPS_ITS_OWN, reason)
    if decision == USE_TABLE and prepared is not None and prepared.predicate is not None:
        _replace(communicator, prepared.predicate)
        return Installation(True, "table", "", claim.digest, claim.candidate, prepared.counters)
    if decision == AS_IT_WAS:
        state, words = AS_IT_WAS, f"nothing was changed: {reason}"
    else:
        state, words = "baseline", f"every call uses the baseline: {reason}"
        if claim.able == CAN_SWITCH:
            _replace(communicator, _baseline())
    if not outcome.certain:
        _log.error("ccl-dispatch: this rank may decide otherwise than the others, restart the job; %s", words)
    elif quiet:
        _log.info("ccl-dispatch: the table is not in use; %s", words)
    elif rank == speaker:
        warn_once(f"the table is not in use; {words}")
    if strict and not (quiet and claim.able == HAS_NONE):
        raise InstallError(f"the table is not in use; {words}")
    return Installation(False, state, words, claim.digest, claim.candidate)


def _claim(able: str, problem: str) -> Claim:
    return Claim(able, problem, absent="", digest="", candidate="", world_size=0, settings={})


def _alone(reason: str) -> Outcome:
    return Outcome(Proposal(AS_IT_WAS, reason, quiet=False, speaker=0), certain=True)


def _words(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _table(source: Table | str | os.PathLike[str] | None, switch: Switch, environ: Mapping[str, str] | None) -> Table:
    if source is None:
        return find_table(environ, edited=switch.served_edited)
    return source if isinstance(source, Table) else read_file(os.fspath(source), switch.served_edited, SECONDS)


def _settings(switch: Switch, modes: Modes) -> dict[str, str]:
    """What has to be equal on all ranks beside the table, under the words that a message uses."""
    return {
        "the version of ccl-dispatch": version(),
        "$CCL_DISPATCH": switch.state,
        "the mode of captured calls": modes.captured,
        "captures that calls take part in": "its own" if modes.around is None else "another communicator's too",
        "dtypes that run as others": ", ".join(f"{own} as {other}" for own, other in modes.views) or "none",
    }


def _label(communicator: Any, peers: Peers) -> str:
    group = getattr(communicator, "group", None) or getattr(getattr(communicator, "_impl", None), "group", None)
    return str(getattr(group, "group_desc", "") or "") or f"{peers.size} ranks"


def _why_stuck(communicator: Any) -> str:
    """Why the engine never asks this communicator; empty when it does."""
    if communicator is None:
        return "there is no communicator"
    if getattr(communicator, "disabled", False):
        return "its communicator is disabled"
    if not hasattr(communicator, _METHOD):
        return f"its communicator ({type(communicator).__name__}) has no {_METHOD}"
    return ""


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


def _check_world_size(table: Table, ranks: int) -> None:
    held = sorted({cell.cell.world_size for cell in table.cells if cell.cell.collective == COLLECTIVE})
    if ranks not in held:
        raise InstallError(
            f"the table has no {COLLECTIVE} cell for {ranks} ranks, it has {', '.join(map(str, held)) or 'none at all'}"
        )


def _own(communicator: Any) -> tuple[Predicate, bool]:
    """The communicator's own predicate, and whether it is the instance's attribute and not its class's method."""
    current = getattr(communicator, _METHOD)
    # Of a second installation the original is still the communicator's own, not our first predicate.
    found: tuple[Predicate, bool] = getattr(
        current, _ORIGINAL, (current, _METHOD in getattr(communicator, "__dict__", {}))
    )
    return found


def _try_to_replace(communicator: Any) -> Predicate:
    """The communicator's own predicate; raises when it could not be replaced. Leaves everything as it is."""
    original, _ = _own(communicator)
    if not callable(original):
        raise InstallError(f"{_METHOD} can't be called")
    had = _METHOD in getattr(communicator, "__dict__", {})
    setattr(communicator, _METHOD, getattr(communicator, _METHOD))
    if not had:
        delattr(communicator, _METHOD)
    return original


def _replace(communicator: Any, predicate: Predicate) -> None:
    setattr(predicate, _ORIGINAL, _own(communicator))
    setattr(communicator, _METHOD, predicate)


def _baseline() -> Predicate:
    def should_custom_ag(inp: Any) -> bool:  # noqa: ARG001 - whatever it is
        return False

    return should_custom_ag


def _record(communicator: Any, group: Any, switch: Switch, modes: Modes, stuck: str) -> Installation:
    """Count calls from now on. Every rank keeps deciding as it did, so there is nothing to agree on."""
    from ccl_dispatch.runtime.recording import recorder_of

    try:
        # A communicator that the engine never asks would give a record without calls.
        if stuck := stuck or _why_stuck(communicator):
            raise InstallError(stuck)
        original, _ = _own(communicator)
        recorder = recorder_of(switch.folder)
        ranks = ranks_of(communicator) or find_peers(communicator, group).size
        predicate = recorder.watch(original, mode_of(communicator, modes), ranks, _dtypes(modes))
        make_opaque(predicate)
        _replace(communicator, predicate)
    except Exception as problem:  # noqa: BLE001 - recording must never keep a process from serving
        warn_once(f"nothing is recorded: {_words(problem)}")
        return Installation(False, AS_IT_WAS, f"nothing is recorded: {_words(problem)}", "", "")
    return Installation(False, "recording", f"calls are counted in {recorder.path}", "", "")


def _dtypes(modes: Modes) -> dict[Any, Any]:
    """The dtypes of `modes.views` as torch's."""
    if not modes.views:
        return {}
    import torch

    return {getattr(torch, own): getattr(torch, other) for own, other in modes.views}
