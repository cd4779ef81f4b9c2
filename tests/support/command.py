"""The command line as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# A shell that runs the tests in the background makes its children ignore SIGINT; a terminal's Ctrl-C is meant here.
_CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ccl_dispatch.tuner.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", _CODE]


def ccl_dispatch(
    *arguments: str, folder: Path, timeout: float = 120.0, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one verb in `folder`, with this process's environment or another."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )
