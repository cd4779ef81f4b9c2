"""The plugin for SGLang: installs on the AITER communicator of each group that SGLang builds.

SGLang loads it by the entry-point group `sglang.srt.plugins` in every process; $CCL_DISPATCH=off turns it off, and so
does a $SGLANG_PLUGINS that leaves it out. Written against 0.5.23.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ccl_dispatch.runtime.installation import Installation, install
from ccl_dispatch.runtime.plugins.hook import CANDIDATE, let_go, run_hook
from ccl_dispatch.runtime.predicate import Modes
from ccl_dispatch.runtime.switch import read_switch

GROUP = "sglang.srt.distributed.parallel_state.GroupCoordinator"


def register() -> None:
    """Ask SGLang to call us whenever it has built a group, and before it destroys one. The entry point."""
    if read_switch().state == "off":
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(f"{GROUP}.__init__", after_construction, HookType.AFTER)
    HookRegistry.register(f"{GROUP}.destroy", before_destruction, HookType.BEFORE)


def after_construction(_result: None, coordinator: Any, *_arguments: Any, **_options: Any) -> None:
    """SGLang's hook: `coordinator` is complete, on every rank of its group."""
    run_hook("SGLang", partial(install_on, coordinator))


def before_destruction(coordinator: Any, *_arguments: Any, **_options: Any) -> None:
    """SGLang's hook: `coordinator` drops its communicator next."""
    let_go(getattr(coordinator, "ca_comm", None))


def install_on(coordinator: Any) -> Installation | None:
    """Install on the coordinator's communicator; None where SGLang has no use for one, on all ranks alike."""
    from sglang.srt.distributed import parallel_state

    if coordinator.world_size < 2 or not coordinator.use_custom_allreduce or not parallel_state.is_hip():
        return None
    if _is_elastic(coordinator):
        # A rank that joins later would find nobody to agree with.
        return None
    stuck = "" if _asks_the_communicator(parallel_state, coordinator) else "SGLang does not use AITER's all-gather here"
    return install(
        coordinator.ca_comm,
        group=coordinator.cpu_group,
        candidate=CANDIDATE,
        modes=_modes(parallel_state)._replace(around=_captured_around(parallel_state)),
        stuck=stuck,
    )


def _asks_the_communicator(parallel_state: Any, coordinator: Any) -> bool:
    """Whether `_all_gather_into_tensor` would ask `should_custom_ag`: switched on, complete, not deterministic."""
    return bool(parallel_state.envs.SGLANG_USE_AITER_AG.get() and coordinator._has_aiter_custom_all_gather())  # noqa: SLF001


def _is_elastic(coordinator: Any) -> bool:
    import torch.distributed as dist

    return "mooncake" in str(dist.get_backend(coordinator.cpu_group))


def _modes(parallel_state: Any) -> Modes:
    """How SGLang calls AITER: captured calls register their input unless it is told to stage them; a call that its
    piecewise graphs run outside of a capture is always staged.
    """
    import torch

    copies_in = parallel_state.envs.SGLANG_MEMORY_SAVER_CUDA_GRAPH.get() or parallel_state._AITER_CAPTURE_COPY_IN  # noqa: SLF001

    def piecewise() -> bool:
        return bool(parallel_state.is_in_tc_piecewise_cuda_graph() and not torch.cuda.is_current_stream_capturing())

    return Modes("graph_copy_in" if copies_in else "graph", piecewise)


def _captured_around(parallel_state: Any) -> Any:
    """The tensor-parallel group's communicator, which captures whenever SGLang does; None while that group is built.

    Not every group that gathers in a captured graph takes part in the capture: those of context-parallel attention and
    of data-parallel experts don't.
    """
    communicator = getattr(getattr(parallel_state, "_TP", None), "ca_comm", None)
    return communicator if hasattr(communicator, "_IS_CAPTURING") else None
