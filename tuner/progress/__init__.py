"""What a sweep tells while it runs: a live picture on a terminal, plain lines elsewhere, events for machines."""

from __future__ import annotations

import os
import sys

from ccl_dispatch.tuner.progress.base import Progress, SilentProgress, Together
from ccl_dispatch.tuner.progress.plain import PlainProgress

__all__ = ["PlainProgress", "Progress", "SilentProgress", "Together", "choose_progress"]


def choose_progress(*, quiet: bool) -> Progress:
    """What fits where standard error goes."""
    if quiet:
        return SilentProgress()
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return PlainProgress()
    from ccl_dispatch.tuner.progress.live import LiveProgress

    return LiveProgress()
