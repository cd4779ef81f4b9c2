"""A process that imports modules once and forks whenever `forks.py` asks: `forking.py SOCKET MODULE...`.

Importing torch takes each process a second and a half of processor time, Optuna and numpy a third of one, which is most
of what short processes take. Only modules are named that are the same whatever a process's environment says.
A request is a JSON packet with what a new interpreter would be given (code, arguments, environment, folder, import
path, cores, limits), and three descriptors: of its output and errors, and of the socket for the answers, which are
`{"started": pid}` and, when it has ended, `{"ended": code}`.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import traceback
import types
from collections.abc import Sequence
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_MOST_BYTES = 1 << 20
# An interpreter puts the folder in which it runs where it put this script's.
_PATH = ["", *sys.path[1:]]


def main(line: socket.socket, modules: Sequence[str]) -> None:
    """Fork what is asked for until the other side is gone."""
    for module in modules:
        importlib.import_module(module)
    # Like a launcher's: a fork has one thread, and no lock of another's.
    assert len(os.listdir("/proc/self/task")) == 1
    gc.collect()
    gc.freeze()  # collecting in a fork would copy every page of what was imported
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)  # only a handler makes the wake-up come
    asking: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([line, woken], [], [])
        if woken in ready:
            with contextlib.suppress(BlockingIOError):
                woken.recv(4096)
            _bury(asking)
        if line in ready:
            packet, fds, _, _ = socket.recv_fds(line, _MOST_BYTES, 3, socket.MSG_CMSG_CLOEXEC)
            if not packet:
                return
            answers = socket.socket(fileno=fds[2])
            pid = _fork(line, json.loads(packet), fds[:2])
            asking[pid] = answers
            _tell(answers, {"started": pid})


def _fork(line: socket.socket, request: dict[str, Any], fds: Sequence[int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _become(line, request, fds)
    for fd in fds:
        os.close(fd)
    return pid


def _become(line: socket.socket, request: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    """Run the code as an interpreter of its own would, and end as one does."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        line.close()
        for fd, standard in zip(fds, (1, 2), strict=True):
            os.dup2(fd, standard)
        os.sched_setaffinity(0, request["cores"])
        for limit, values in request["limits"]:
            resource.setrlimit(limit, values)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[:] = request["path"] or _PATH
        sys.argv[:] = ["-c", *request["arguments"]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(request["code"], "<string>", "exec"), module.__dict__)  # noqa: S102 - what `python -c` does
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code and end.code is not code:
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - the loop that forks must never run in a fork
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _bury(asking: dict[int, socket.socket]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with asking.pop(pid) as answers:
                _tell(answers, {"ended": os.waitstatus_to_exitcode(status)})


def _tell(answers: socket.socket, what: dict[str, int]) -> None:
    with contextlib.suppress(BrokenPipeError):  # a test that has given up
        answers.send(json.dumps(what).encode())


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
