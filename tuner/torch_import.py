"""A torch that is not installed, or is and can't be imported: a library of the driver's that it does not find, say."""

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
    except Exception as problem:  # noqa: BLE001 - a build for another CUDA raises ValueError, one for another Python anything
        return in_a_line(problem)
    return None


def in_a_line(problem: BaseException) -> str:
    """What torch's import ended with. The loader's words and numpy's go on for lines."""
    return f"torch can't be imported: {type(problem).__name__}: {' '.join(str(problem).split())}"


def need_torch() -> None:
    """Look whether torch is installed, without importing it.

    Raises:
        ModuleNotFoundError: it is not; the command line then says what to install.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


def no_torch(reason: str) -> UsageError:
    """What ends a command that needs torch; the reason is as by `in_a_line`."""
    return UsageError(
        f"{reason}. `{sys.executable} -c 'import torch'` shows the whole of it. "
        "Mend this environment, or use one in which torch works"
    )
