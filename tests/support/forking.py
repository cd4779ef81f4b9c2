"""A process that imports torch once and forks a rank whenever `ranks.run_ranks` asks: `forking.py SOCKET MODULE...`.

Importing torch takes each process a second and a half of processor time, which is most of what the ranks of a test do.
Other modules that ranks need may be named, as far as they are the same whatever a rank's environment says.
A request is a JSON packet with what a new interpreter would be given (code, arguments, environment, folder, import
path), and two descriptors for its output. The answers: `{"started": pid}`, and `{"ended": pid, "code": code}` when it
has.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_MOST_BYTES = 1 << 20


def main(line: socket.socket, modules: Sequence[str]) -> None:
    """Fork what is asked for until the other side is gone."""
    import torch
    import torch.distributed

    for module in modules:
        importlib.import_module(module)
    # Like a launcher's: a fork has one thread, and no lock of another's.
    assert len(os.listdir("/proc/self/task")) == 1
    assert torch.distributed.is_gloo_available()
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)  # only a handler makes the wake-up come
    while True:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
            _bury(line)
        if line in ready:
            packet, fds, _, _ = socket.recv_fds(line, _MOST_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
            if not packet:
                return
            _fork(line, json.loads(packet), fds)


def _fork(line: socket.socket, request: dict[str, Any], fds: Sequence[int]) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _become(line, request, fds)
    for fd in fds:
        os.close(fd)
    line.send(json.dumps({"started": pid}).encode())


def _become(line: socket.socket, request: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    """Run the code as an interpreter of its own would, and end as one does when it fails."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line.close()
        for fd, standard in zip(fds, (1, 2), strict=True):
            os.dup2(fd, standard)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:] = request["path"]
        sys.argv[:] = ["-c", *request["arguments"]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(request["code"], "<string>", "exec"), module.__dict__)  # noqa: S102 - what `python -c` does
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - the loop that forks must never run in a rank
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _bury(line: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            line.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
