"""A rank that a launcher gave, other than the first of its node: it hosts that rank's worker for the first one."""

from __future__ import annotations

import os
from typing import NoReturn

from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.interpreter import python
from ccl_dispatch.tuner.launch.launched import Launched, forget_group
from ccl_dispatch.tuner.launch.launcher import NURSERY_MODULE
from ccl_dispatch.tuner.launch.meeting import connect, meeting_place

# Local rank 0 imports no more than this one did before it listens; a busy network filesystem has its time.
_PARENT_SECONDS = 300.0


def host(launched: Launched) -> NoReturn:
    """Become the nursery of this rank's worker, in this very process: the launcher's binding holds for its children.

    It ends with the exit code that the sweep ends with, and with 3 when that is lost.

    Raises:
        MeasuringError, UsageError: local rank 0 can't be reached.
    """
    line = connect(launched, meeting_place(launched), _PARENT_SECONDS)
    wire.send(line, {"host": launched.local_rank, "process": os.getpid(), "cpus": sorted(os.sched_getaffinity(0))})
    environment = dict(os.environ)
    forget_group(environment)
    line.set_inheritable(True)
    # A new interpreter: what this one imported for the command line may have started threads.
    command = python(NURSERY_MODULE, str(line.fileno()))
    os.execve(command[0], command, environment)  # noqa: S606 - a fixed command, and no shell is wanted
