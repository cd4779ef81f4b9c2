"""Keeping what a verification measured, for later ones to be compared with."""

from __future__ import annotations

import time
from pathlib import Path

from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.units import counted
from ccl_dispatch.tuner.verify.reference import joined, read_reference, reference_path, write_reference
from ccl_dispatch.tuner.verify.run import Verified
from ccl_dispatch.tuner.verify.verdict import RIGHT

# A reference is used many times: with so many visits of each size its own scatter hardly counts.
ENOUGH_VISITS = 16


def keep_reference(verified: Verified, path: Path | None) -> str:
    """Add the run's visits to the reference at `path` (default: beside the table); what was done, in a sentence.

    Visits are kept only when they are like the table's: everything still right, on the table's platform. Otherwise a
    later run would be compared with what had changed already.

    Raises:
        ReferenceFileError: what is at `path` is not a reference of this table.
        OutputError: it can't be written.
    """
    setup = verified.setup
    target = path or reference_path(setup.path)
    if verified.verification.verdict != RIGHT:
        return f"nothing was added to {target}: a reference is what the table was right with"
    if setup.differs:
        return f"nothing was added to {target}: this is not the table's platform"
    found = verified.as_reference(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    if target.is_file():
        before = read_reference(target, setup.table)
        if match(before.platform, found.platform).differs:
            return f"nothing was added to {target}: it was made on another platform"
        found = joined(before, found)
    write_reference(found, target)
    visits = sum(map(len, found.visits.values()))
    fewest = min(map(len, found.visits.values()), default=0)
    more = (
        "" if fewest >= ENOUGH_VISITS else f"; more are worth having: --keep again, until {ENOUGH_VISITS} at each size"
    )
    what = f"{counted(len(found.visits), 'size')}, {counted(visits, 'visit')}"
    return f"{target}: {what}, {counted(found.sets, 'set')} of workers{more}"
