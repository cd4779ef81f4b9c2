"""Implementations of a collective that can be measured. Adding one touches its own file and `registry.py`."""

from ccl_dispatch.tuner.backends.base import Backend, BackendContext, Point
from ccl_dispatch.tuner.backends.registry import BACKENDS, backend_class, check_name

__all__ = ["BACKENDS", "Backend", "BackendContext", "Point", "backend_class", "check_name"]
