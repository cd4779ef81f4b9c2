"""A backend that is not captured, as one may declare."""

from __future__ import annotations

from ccl_dispatch.tuner.backends.gloo import GlooBackend


class EagerOnly(GlooBackend):
    """Gloo, which declares the mode `eager` alone."""

    name = "eager_only"
    modes = ("eager",)
