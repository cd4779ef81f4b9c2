"""A forked process is what a new interpreter would have been, but for what it need not import again."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import pytest
from forks import Fork, forks

ENDS = {
    "well": "print('done')",
    "a code": "import sys; sys.exit(7)",
    "a message": "import sys; sys.exit('no more')",
    "an exception": "raise ValueError('what')",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "what is left to do": "import atexit; atexit.register(print, 'the last'); print('first', end='')",
    "a thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
}
TOLD = """
import json, os, resource, sys
print(json.dumps([os.getcwd(), sys.argv, dict(os.environ), sorted(os.sched_getaffinity(0)), sys.path[0],
                  resource.getrlimit(resource.RLIMIT_NOFILE), __name__, sys.stdin.read()]))
"""


def _forked(
    code: str, *arguments: str, environment: dict[str, str] | None = None, folder: Path
) -> tuple[int, str, str]:
    with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
        process = _start(
            code, *arguments, output=output.fileno(), errors=errors.fileno(), folder=folder, env=environment
        )
        ended = process.wait(20)
        output.seek(0)
        errors.seek(0)
        return ended, output.read(), errors.read()


def _start(
    code: str, *arguments: str, output: int, errors: int, folder: Path, env: dict[str, str] | None = None
) -> Fork:
    return forks(("json",)).start(
        code, arguments, output=output, errors=errors, environment=env or dict(os.environ), folder=str(folder)
    )


@pytest.mark.parametrize("code", ENDS.values(), ids=ENDS.keys())
def test_it_ends_as_an_interpreter_does(code: str, tmp_path: Path) -> None:
    """With its exit code, what it printed, and the last line of what went wrong."""
    own = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    ended, output, errors = _forked(code, folder=tmp_path)
    assert (ended, output) == (own.returncode, own.stdout)
    assert errors.splitlines()[-1:] == own.stderr.splitlines()[-1:]


def test_it_is_given_what_an_interpreter_would_be(tmp_path: Path) -> None:
    """Folder, arguments, environment, cores, limits, import path and an empty standard input."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    environment = {**os.environ, "OF_ITS_OWN": "1"}
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        own = subprocess.run(
            [sys.executable, "-c", TOLD, "word"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        forked = _forked(TOLD, "word", environment=environment, folder=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert json.loads(forked[1]) == json.loads(own.stdout)


def test_one_that_goes_on_can_be_ended(tmp_path: Path) -> None:
    """Waiting ends in time; then it runs until it is killed, and others that are asked for meanwhile run beside it."""
    with TemporaryFile() as output:
        process = _start("import time; time.sleep(60)", output=output.fileno(), errors=output.fileno(), folder=tmp_path)
        began = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.1)
        assert _forked("print(1)", folder=tmp_path)[:2] == (0, "1\n")
        process.kill()
        assert time.monotonic() - began < 20
        assert process.returncode == -9
