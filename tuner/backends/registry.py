"""The names of the backends and where their classes are. Classes are imported when asked for: some need a GPU build."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from ccl_dispatch.runtime.document import nearest
from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.backends.base import Backend

BACKENDS = {
    "gloo": "ccl_dispatch.tuner.backends.gloo:GlooBackend",
    "shm": "ccl_dispatch.tuner.backends.shm:ShmBackend",
    "rccl": "ccl_dispatch.tuner.backends.nccl:RcclBackend",
    "nccl": "ccl_dispatch.tuner.backends.nccl:NcclBackend",
    "aiter": "ccl_dispatch.tuner.backends.aiter:AiterBackend",
    "symm_mem": "ccl_dispatch.tuner.backends.symm_mem:SymmMemBackend",
}


def check_name(name: str) -> None:
    """Raise UsageError, with the nearest name there is, unless `name` is a backend."""
    if name not in BACKENDS:
        raise UsageError(f"there is no backend {name!r}. {nearest(name, BACKENDS)}")


def backend_class(name: str, extra: Mapping[str, str] | None = None) -> type[Backend]:
    """The class of a backend.

    Args:
        name: of a backend in `BACKENDS` or `extra`.
        extra: more names and their `module:Class`; they go before the registry's.

    Raises:
        UsageError: no such backend.
        ImportError: what it needs is not installed.
    """
    place = (extra or {}).get(name)
    if place is None:
        check_name(name)
        place = BACKENDS[name]
    module, _, attribute = place.partition(":")
    found: type[Backend] = getattr(importlib.import_module(module), attribute)
    return found
