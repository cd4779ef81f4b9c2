"""What has a name in this machine's shared memory."""

from __future__ import annotations

import os

# Of a database, a browser and a pool of `multiprocessing`, which tests beside this one may run at any moment. The
# package has none of them.
_OTHERS = ("PostgreSQL.", ".org.chromium.", ".com.google.Chrome.", "sem.mp-")


def named_memory() -> set[str]:
    """Names in /dev/shm that a sweep may have left there."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith(_OTHERS)}
