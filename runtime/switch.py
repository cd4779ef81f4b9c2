"""What the environment says about serving: the one switch, and the policies beside it.

Read when something is installed, never by a decision.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ccl_dispatch.runtime.telling import warn_once

VARIABLE = "CCL_DISPATCH"
STATES = ("off", "on", "strict", "record")
# What may be done with a table whose digest does not belong to what it says.
EDITED = ("refuse", "warn")

EDITED_VARIABLE = "CCL_DISPATCH_EDITED"
TIMEOUT_VARIABLE = "CCL_DISPATCH_TIMEOUT"
RECORD_VARIABLE = "CCL_DISPATCH_RECORD"

DEFAULT_TIMEOUT = 30.0
DEFAULT_RECORD_FOLDER = "ccl-dispatch-record"


class Switch(NamedTuple):
    """The environment's wishes.

    Attributes:
        state: `off`: nothing is touched. `on`: a table is used where all ranks can. `strict`: and raise where they
            can't. `record`: nothing is decided, calls are counted.
        edited: `refuse` or `warn`, for a table that was edited by hand.
        timeout: seconds that ranks wait for each other.
        folder: where `record` writes.
    """

    state: str
    edited: str
    timeout: float
    folder: str

    @property
    def served_edited(self) -> str:
        """`edited` as it holds for what is served: `strict` refuses, whatever it says."""
        return "refuse" if self.state == "strict" else self.edited


def read_switch(environ: Mapping[str, str] | None = None) -> Switch:
    """The switch of this process. A value that can't be understood means what changes least, with a warning."""
    values = os.environ if environ is None else environ
    return Switch(
        state=_choice(values, VARIABLE, STATES, unset="on", otherwise="off"),
        edited=_choice(values, EDITED_VARIABLE, EDITED, unset="refuse", otherwise="refuse"),
        timeout=seconds(values.get(TIMEOUT_VARIABLE, "").strip() or DEFAULT_TIMEOUT, f"${TIMEOUT_VARIABLE}"),
        folder=values.get(RECORD_VARIABLE, "").strip() or DEFAULT_RECORD_FOLDER,
    )


def asks_strict() -> bool:
    """Whether $CCL_DISPATCH is `strict`, and nothing else of the switch: no word about values that are wrong."""
    return os.environ.get(VARIABLE, "").strip().lower() == "strict"


def _choice(values: Mapping[str, str], name: str, choices: tuple[str, ...], *, unset: str, otherwise: str) -> str:
    found = values.get(name, "").strip().lower()
    if not found:
        return unset
    if found not in choices:
        warn_once(f"${name} is {found[:40]!r}, expected one of {', '.join(choices)}; taken as {otherwise}")
        return otherwise
    return found


def seconds(found: Any, what: str, otherwise: float = DEFAULT_TIMEOUT) -> float:
    """How long `found` lets ranks wait for each other; `otherwise`, with a warning, where that can't be told."""
    try:
        number = float(found)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= 3600:
        warn_once(f"{what} is {repr(found)[:42]}, expected seconds up to 3600; taken as {otherwise:g}")
        return otherwise
    return number
