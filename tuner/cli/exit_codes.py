"""The exit code of what a verb ended with."""

from __future__ import annotations

import signal

from ccl_dispatch.runtime.errors import CclDispatchError
from ccl_dispatch.tuner.interrupts import TerminatedError

INTERRUPTED = 130
# A shell's: 128 and the signal's number.
TERMINATED = 143
HUNG_UP = 129
EXIT_CODES = {
    0: "done",
    1: "the answer is no",
    2: "wrong use or bad input",
    3: "something failed while measuring or writing",
    HUNG_UP: "ended by SIGHUP, its terminal or connection gone; the same command continues",
    INTERRUPTED: "interrupted by Ctrl-C; the same command continues",
    TERMINATED: "ended by SIGTERM; the same command continues",
}


def exit_code(problem: BaseException) -> int:
    """The exit code when `problem` is what ends the command line."""
    if isinstance(problem, CclDispatchError):
        return problem.exit_code
    if isinstance(problem, TerminatedError):
        return HUNG_UP if problem.number == signal.SIGHUP else TERMINATED
    if isinstance(problem, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(problem, OSError):
        return 3
    # The second is a name that no file can have here.
    return 2 if isinstance(problem, ModuleNotFoundError | UnicodeEncodeError) else 1
