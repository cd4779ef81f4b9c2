"""The command line as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from ccl_dispatch.tuner.cli import main; sys.exit(main())"]


def ccl_dispatch(*arguments: str, folder: Path, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run one verb in `folder`."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
