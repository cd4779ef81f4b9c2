"""The command line as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from forks import ENVIRONMENT, forks

# A shell that runs the tests in the background makes its children ignore SIGINT; a terminal's Ctrl-C is meant here.
_CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ccl_dispatch.tuner.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", _CODE]
# Three quarters of the processor time of a short command. Nothing of ours: that each verb imports what it needs is a
# part of what is tested. And the verbs that need none of this have tests of their own that they import none of it.
_OF_OTHERS = ("numpy", "optuna", "optuna.storages.journal", "rich.console", "sqlalchemy", "threadpoolctl", "yaml")
# Read when an interpreter starts or a library is loaded.
_READ_AT_START = ("PYTHON", "LC_", "LANG", "OPENBLAS", "OMP_", "LD_")


def ccl_dispatch(
    *arguments: str, folder: Path, timeout: float = 120.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one verb in `folder`, with this process's environment or another."""
    words = [*COMMAND, *arguments]
    given = os.environ if environment is None else environment
    if not _starts_alike(given):
        return subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False, env=given
        )
    pipes = [os.pipe() for _ in ("stdout", "stderr")]
    with ThreadPoolExecutor(len(pipes)) as threads:
        texts = [threads.submit(_read, end) for end, _ in pipes]
        try:
            process = forks(_OF_OTHERS).start(
                _CODE,
                arguments,
                output=pipes[0][1],
                errors=pipes[1][1],
                environment=given,
                folder=os.path.abspath(folder),
            )
        finally:
            for _, end in pipes:
                os.close(end)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(words, code, *(text.result() for text in texts))


def _read(fd: int) -> str:
    with open(fd) as stream:
        return stream.read()


def _starts_alike(environment: Mapping[str, str]) -> bool:
    first, second = (
        {name: value for name, value in variables.items() if name.startswith(_READ_AT_START)}
        for variables in (environment, ENVIRONMENT)
    )
    return first == second
