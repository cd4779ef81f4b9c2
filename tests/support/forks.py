"""Python code as a process of its own that does not import again what others have imported (`forking.py`)."""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

# Whatever a test has set by the time that the first one needs forks.
ENVIRONMENT = dict(os.environ)
_PATIENCE_SECONDS = 60.0
_LIMITS = sorted({value for name, value in vars(resource).items() if name.startswith("RLIMIT_")})


class Fork:
    """A process that was forked, to be waited for like one of `subprocess.Popen`."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self.returncode: int | None = None
        started = self._next(_PATIENCE_SECONDS)
        assert started is not None, "the process that forks does not answer"
        self.pid = started["started"]

    def wait(self, timeout: float) -> int:
        """Its exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not in that many seconds, and goes on.
        """
        if self.returncode is None:
            ended = self._next(max(0.0, timeout))
            if ended is None:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = ended["ended"]
            self._answers.close()
        return self.returncode

    def kill(self) -> None:
        """End it, and wait for that."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(_PATIENCE_SECONDS)

    def _next(self, timeout: float) -> dict[str, int] | None:
        if not select.select([self._answers], [], [], timeout)[0]:
            return None
        packet = self._answers.recv(4096)
        assert packet, "the process that forks has ended"
        answer: dict[str, int] = json.loads(packet)
        return answer


class Forks:
    """The process of `forking.py` with some modules, which ends with this one."""

    def __init__(self, modules: Sequence[str], path: Sequence[str]) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("forking.py")), str(theirs.fileno()), *modules],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**ENVIRONMENT, **({"PYTHONPATH": os.pathsep.join(path)} if path else {})},
            )
        atexit.register(self._close)

    def _close(self) -> None:
        self._line.close()
        self._process.wait()

    def start(
        self,
        code: str,
        arguments: Sequence[str],
        *,
        output: int,
        errors: int,
        environment: Mapping[str, str],
        folder: str,
        path: Sequence[str] = (),
    ) -> Fork:
        """Run `code` as `python -c` would, writing to two descriptors; `path` is its import path, if not the usual.

        As by a new interpreter, this process's cores and limits are inherited; its umask and signals are not.
        """
        request = {
            "code": code,
            "arguments": [*arguments],
            "environment": {**environment},
            "folder": folder,
            "path": [*path],
            "cores": [*os.sched_getaffinity(0)],
            "limits": [(limit, resource.getrlimit(limit)) for limit in _LIMITS],
        }
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            socket.send_fds(self._line, [json.dumps(request).encode()], [output, errors, theirs.fileno()])
        return Fork(answers)


@cache
def forks(modules: tuple[str, ...], path: tuple[str, ...] = ()) -> Forks:
    """The process that has imported `modules`, by `path` before the usual one, the same for all tests."""
    return Forks(modules, path)
