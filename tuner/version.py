"""The version of this package. A module of its own: verbs that need neither torch nor Optuna show it too."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version of this package, or `unknown` when it is not installed."""
    try:
        return metadata.version("ccl-dispatch")
    except metadata.PackageNotFoundError:
        return "unknown"
