"""The version of this package, for whatever shows or compares it; nothing is imported before it is asked for."""

from __future__ import annotations


def version() -> str:
    """The version of this package, or `unknown` of a copy that was not installed: in a zip file, say."""
    from importlib import metadata

    try:
        return metadata.version("ccl-dispatch")
    except metadata.PackageNotFoundError:
        return "unknown"
