"""The plugin for vLLM: installs on each wrapper that vLLM builds around AITER's communicator.

vLLM loads it by the entry-point group `vllm.general_plugins` in every process; $CCL_DISPATCH=off turns it off, and so
does a $VLLM_PLUGINS that leaves it out. Written against 0.33.0.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from typing import Any

from ccl_dispatch.runtime.installation import Installation, install
from ccl_dispatch.runtime.plugins.hook import CANDIDATE, let_go, run_hook
from ccl_dispatch.runtime.predicate import own_modes
from ccl_dispatch.runtime.switch import read_switch
from ccl_dispatch.runtime.vocabulary import dtype_name

_MARK = "ccl_dispatch_hook"


def register() -> None:
    """Have us called whenever a communicator was built, and before it is closed. The entry point; vLLM may call it
    several times.
    """
    if read_switch().state != "off":
        run_hook("vLLM", _hook)


def _hook() -> None:
    # Where there is no AITER vLLM builds no such communicator, and its modules need not be loaded early.
    if importlib.util.find_spec("aiter") is None:
        return
    _speak_where_vllm_does()
    from vllm.distributed.device_communicators.aiter_custom_all_reduce import AiterCustomAllreduce

    own, ends = AiterCustomAllreduce.__init__, AiterCustomAllreduce.close
    if hasattr(own, _MARK):
        return

    @functools.wraps(own)
    def construct(self: Any, *arguments: Any, **options: Any) -> None:
        own(self, *arguments, **options)
        run_hook("vLLM", functools.partial(install_on, self))

    @functools.wraps(ends)
    def close(self: Any, *arguments: Any, **options: Any) -> Any:
        let_go(self)
        return ends(self, *arguments, **options)

    setattr(construct, _MARK, True)
    AiterCustomAllreduce.__init__, AiterCustomAllreduce.close = construct, close


def _speak_where_vllm_does() -> None:
    """Let our words be where vLLM's are. It sets up its own logger and not the root, so that ours would be without a
    handler: a table in use would be told nobody, and warnings would come without time and process.
    """
    ours = logging.getLogger("ccl_dispatch")
    if not ours.hasHandlers():
        ours.parent = logging.getLogger("vllm")


def install_on(communicator: Any) -> Installation:
    """Install on a wrapper that is complete, on every rank of its group."""
    modes = own_modes(communicator)._replace(views=_views(communicator))
    return install(communicator, candidate=CANDIDATE, modes=modes)


def _views(communicator: Any) -> tuple[tuple[str, str], ...]:
    """The integers that AITER's `custom_all_gather`, which vLLM calls, gathers as floats of their size.

    vLLM gathers an expert layer's hidden states, weights and expert ids together, and with AITER only where it may take
    each of them: where ids always went the other way, all would.
    """
    views = getattr(getattr(communicator, "_impl", None), "_INT_TO_FP_VIEW", None) or {}
    return tuple(sorted((dtype_name(own), dtype_name(other)) for own, other in views.items()))
