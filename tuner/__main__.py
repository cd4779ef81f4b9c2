"""`python -m ccl_dispatch.tuner`: the command line, where the script `ccl-dispatch` is not on PATH or names a Python
that has moved.
"""

from __future__ import annotations

import sys

from ccl_dispatch.tuner.cli import main

if __name__ == "__main__":
    sys.exit(main())
