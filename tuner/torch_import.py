"""A torch that is installed and can't be imported: a library of the driver's that it does not find, say."""

from __future__ import annotations

import importlib
import importlib.util
import sys

from ccl_dispatch.runtime.errors import UsageError


def broken_torch() -> str | None:
    """Why torch can't be imported here although it is installed; None when it can, or is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as problem:
        return f"{type(problem).__name__}: {problem}"
    return None


def no_torch(reason: str) -> UsageError:
    """What ends a command that needs torch."""
    return UsageError(
        f"torch can't be imported: {reason}. `{sys.executable} -c 'import torch'` shows the whole of it. "
        "Mend this environment, or use one in which torch works"
    )
