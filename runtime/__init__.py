"""The runtime of ccl-dispatch: load a table, ask which backend a call should use, install it on a communicator.

Importing this imports PyYAML and a handful of standard modules, never torch, and nothing that is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ccl_dispatch.runtime.errors import (
    AbsentTableError,
    AmbiguousTableError,
    CclDispatchError,
    DocumentError,
    InstallError,
    NoTableError,
    PlatformMismatchError,
    TableError,
)
from ccl_dispatch.runtime.load import load_table
from ccl_dispatch.runtime.table import Platform, Table

if TYPE_CHECKING:
    from ccl_dispatch.runtime.counting import Count, counters
    from ccl_dispatch.runtime.dispatch import Dispatcher
    from ccl_dispatch.runtime.explanation import Explanation, explain
    from ccl_dispatch.runtime.installation import Installation, install, uninstall
    from ccl_dispatch.runtime.metrics import register_metrics
    from ccl_dispatch.runtime.platform import Verdict, match
    from ccl_dispatch.runtime.predicate import Modes
    from ccl_dispatch.runtime.probe import this_platform

__all__ = [
    "AbsentTableError",
    "AmbiguousTableError",
    "CclDispatchError",
    "Count",
    "Dispatcher",
    "DocumentError",
    "Explanation",
    "InstallError",
    "Installation",
    "Modes",
    "NoTableError",
    "Platform",
    "PlatformMismatchError",
    "Table",
    "TableError",
    "Verdict",
    "counters",
    "explain",
    "install",
    "load_table",
    "match",
    "register_metrics",
    "this_platform",
    "uninstall",
]

_LAZY = {
    "Count": "counting",
    "counters": "counting",
    "Dispatcher": "dispatch",
    "Explanation": "explanation",
    "explain": "explanation",
    "Installation": "installation",
    "install": "installation",
    "uninstall": "installation",
    "register_metrics": "metrics",
    "Verdict": "platform",
    "match": "platform",
    "Modes": "predicate",
    "this_platform": "probe",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
