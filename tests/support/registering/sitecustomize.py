"""Lets a sweep name the backends of `faulty.py` and `failing.py`: every Python with this folder on its path knows them.

That is the sweep's own process and those of its workers.
"""

from __future__ import annotations

import contextlib

_PLACES = {
    "faulty": ("hanging", "crashing", "raising", "unmade", "stale", "decaying"),
    "failing": (
        *("aborting", "dying", "exiting", "unborn", "poisoning", "silent", "garbling", "flipping", "limping"),
        *("undermining", "steady", "brisk", "stormy", "shaken"),
    ),
}

with contextlib.suppress(ImportError):  # a Python that the package is not installed in
    from ccl_dispatch.tuner.backends.registry import BACKENDS

    BACKENDS.update({name: f"{module}:{name.title()}" for module, names in _PLACES.items() for name in names})
