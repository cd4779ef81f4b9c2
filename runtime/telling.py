"""Warnings that a process gives once. An engine makes several groups in each process, and what is wrong with the
environment or with a table is the same for all of them.
"""

from __future__ import annotations

# Bounded, whatever a process is told of; what comes after these is told each time.
_MOST = 100
_told: set[str] = set()


def warn_once(message: str) -> None:
    """Log `message` as a warning of `ccl_dispatch`, unless this process has logged it before."""
    if message in _told:
        return
    if len(_told) < _MOST:
        _told.add(message)
    import logging  # a third of what importing the runtime costs, and seldom needed

    logging.getLogger("ccl_dispatch").warning("ccl-dispatch: %s", message)
