"""What the engines' hooks have in common: install on a communicator that was just built, and harm nobody.

An engine may swallow a plugin's exception or die of it, on one rank alone. Here nothing is raised but what strict mode
asks for, and that is raised on every rank.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from ccl_dispatch.runtime.errors import InstallError
from ccl_dispatch.runtime.installation import Installation, uninstall
from ccl_dispatch.runtime.switch import asks_strict
from ccl_dispatch.runtime.telling import warn_once

# What tables call AITER's communicator, the one that both engines use.
CANDIDATE = "aiter"

_log = logging.getLogger("ccl_dispatch")


def run_hook(engine: str, hook: Callable[[], Installation | None]) -> None:
    """Run `hook`, and tell what came of it.

    Raises:
        InstallError: strict mode is on and the table could not be used, or never came to be asked for: the engine is of
            a version in which a name is gone that the plugin reads, say.
    """
    try:
        done = hook()
    except InstallError:
        raise
    except Exception as problem:
        # The engine goes on, and the other ranks see that this one did not come.
        words = f"{engine} is left as it is: {str(problem) or type(problem).__name__}"
        if asks_strict():
            raise InstallError(words) from problem
        warn_once(words)
        return
    if done is not None and done.active:
        _log.info("ccl-dispatch: %s asks the table %s before it uses %s", engine, done.digest[:19], done.candidate)
    elif done is not None and done.state == "recording":
        _log.info("ccl-dispatch: %s", done.reason)


def let_go(communicator: Any) -> None:
    """Leave a communicator that its engine is about to drop.

    It and our predicate hold each other, so that its memory on the GPU would stay until Python's garbage collector
    comes by, which the engines keep it from.
    """
    with contextlib.suppress(Exception):  # the engine ends it either way
        uninstall(communicator)
