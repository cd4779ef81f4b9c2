"""How a new Python that runs one of our modules is started: it imports what this one would, wherever it is started."""

from __future__ import annotations

import sys

# `-m` and `-c` alike put the current folder before all else, where a `random.py` or a folder `torch` of the user's
# would be taken for the library, in the workers alone. What keeps it out, `-P`, came with Python 3.11; $PYTHONSAFEPATH
# keeps it out of `-c` as well. Until it is out nothing is imported that is not built in. $PYTHONPATH goes on to hold.
_CODE = (
    "import sys; getattr(sys.flags, 'safe_path', False) or sys.path.pop(0); del sys.argv[0]; "
    "import runpy; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs `module` as `python -m` does, but for the current folder."""
    return [sys.executable, "-c", _CODE, module, *arguments]
