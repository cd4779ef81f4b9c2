"""The predicate that takes a communicator's `should_custom_ag` place: the table's answer and the communicator's own.

What can be decided when it is made is decided then: the table's cells are tuples, the communicator's check is inlined
where it is known to the letter (`capacity.py`). A call reads the tensor's dtype and bytes and adds one to a count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

from ccl_dispatch.runtime.capacity import ALIGNMENT, Capacity, known_capacity
from ccl_dispatch.runtime.counting import BASELINE, CANDIDATE, REFUSED, Counters, keep
from ccl_dispatch.runtime.dispatch import Dispatcher
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import ITEMSIZE, MODES, Cell

COLLECTIVE = "all_gather"
DIM = "first"

Predicate = Callable[[Any], bool]

# Of one dtype: sizes above the first number and up to the second may be the candidate's; the edges of its runs and
# whether each is the candidate's (no edges where all of them are); the counts.
_Entry = tuple[int, int, "tuple[int, ...]", "tuple[bool, ...]", "list[int]"]
_Cells = dict[Any, _Entry]


class Modes(NamedTuple):
    """How a communicator's calls run, by its capture state.

    Attributes:
        captured: the mode of a call while the communicator is capturing, be it the captured call itself or the warm-up
            before it, which has to decide alike: `graph`, or `graph_copy_in` where inputs are staged.
        piecewise: None, or true while calls of a capturing communicator run outside of a graph and stage their input
            (SGLang's piecewise graphs); asked while capturing only.
    """

    captured: str
    piecewise: Callable[[], bool] | None = None


def capture_mode(communicator: Any) -> str:
    """`graph_copy_in` for a communicator that was built to stage its input while capturing, else `graph`.

    AITER says so by `enable_register_for_capturing`, also inside vLLM's wrapper.
    """
    registers = getattr(_state_of(communicator), "enable_register_for_capturing", True)
    return "graph" if registers else "graph_copy_in"


def mode_of(communicator: Any, modes: Modes) -> Callable[[], str]:
    """A callable that says how a call of `communicator` that is made now runs."""
    state = _state_of(communicator)
    piecewise = modes.piecewise

    def mode() -> str:
        if not getattr(state, "_IS_CAPTURING", False):
            return "eager"
        return "graph_copy_in" if piecewise is not None and piecewise() else modes.captured

    return mode


def make_predicate(
    communicator: Any,
    original: Predicate,
    table: Table,
    candidate: str,
    ranks: int,
    modes: Modes,
    *,
    label: str = "",
) -> tuple[Predicate, Counters]:
    """The predicate and its counts.

    Args:
        communicator: the communicator of `ranks` ranks whose `original` check it replaces.
        original: its own check; has the last word on every tensor.
        table: the table to ask.
        candidate: the table's name for the communicator.
        ranks: the world size.
        modes: how calls run.
        label: names the installation among the counts of the process.
    """
    counters = keep(Counters(table.baseline, candidate, label))
    state = _state_of(communicator)
    capacity = known_capacity(original) or Capacity(state, -1)
    dispatcher = table.dispatcher(COLLECTIVE, ranks)
    cells = {mode: _cells(dispatcher, counters, mode, candidate) for mode in MODES}
    others = {mode: counters.other.setdefault(Cell(COLLECTIVE, mode, DIM, "other", ranks), [0, 0, 0]) for mode in cells}
    index = _device_index(communicator, table.platform.device_type)
    check = _checked(original, counters.failed)
    captured = _captured(state, cells, others, check, index, counters.failed, modes)
    predicate = _compose(
        state=capacity.state if hasattr(state, "_IS_CAPTURING") else _NEVER_CAPTURING,
        limit=capacity.limit,
        index=index,
        cells=cells["eager"],
        other=others["eager"],
        captured=captured,
        check=check,
        failed=counters.failed,
    )
    make_opaque(predicate)
    # The counts are there as long as the predicate is, also where nobody keeps the installation.
    predicate.ccl_dispatch_counters = counters  # type: ignore[attr-defined]
    return predicate, counters


def make_opaque(predicate: Callable[..., Any]) -> None:
    """Have torch.compile call `predicate` instead of tracing it: it decides and counts when it is called.

    Dynamo knows functions by an attribute, and the frames that it meets at run time by their code. Both are set here
    without importing Dynamo, which would take seconds.
    """
    import contextlib

    predicate._torchdynamo_disable = True  # type: ignore[attr-defined]  # noqa: SLF001
    predicate._torchdynamo_disable_msg = "ccl-dispatch decides when it is called"  # type: ignore[attr-defined]  # noqa: SLF001
    with contextlib.suppress(Exception):  # a torch whose Dynamo has no such switch traces the frame, at some cost
        from torch._C._dynamo import eval_frame

        skip = eval_frame._FrameAction.SKIP  # noqa: SLF001
        run = eval_frame._FrameAction.DEFAULT  # noqa: SLF001
        eval_frame.set_code_exec_strategy(predicate.__code__, eval_frame._FrameExecStrategy(skip, run))  # noqa: SLF001


class _NeverCapturing:
    """Stands for the state of a communicator that knows no capture."""

    _IS_CAPTURING = False


_NEVER_CAPTURING = _NeverCapturing()


def _state_of(communicator: Any) -> Any:
    """The object that has the capture state: the communicator, or what vLLM's wrapper has inside."""
    if hasattr(communicator, "_IS_CAPTURING"):
        return communicator
    return getattr(communicator, "_impl", communicator)


def _device_index(communicator: Any, device_type: str) -> int:
    """What `tensor.get_device()` says of the communicator's device: its index, -1 for the CPU.

    A communicator that does not name its device is taken to be on the current one of the table's `device_type`.
    """
    import torch

    named = getattr(communicator, "device", None)
    if named is None:
        named = getattr(getattr(communicator, "_impl", None), "device", None)
    device = torch.device(device_type if named is None else f"cuda:{named}" if isinstance(named, int) else named)
    if device.type == "cpu":
        return -1
    index: Any = device.index  # None for "cuda", whatever torch's types say
    return torch.cuda.current_device() if index is None else int(index)


def _cells(dispatcher: Dispatcher, counters: Counters, mode: str, candidate: str) -> _Cells:
    import torch

    found: _Cells = {}
    for name in ITEMSIZE:
        dtype: Any = vars(torch).get(name)
        compiled = dispatcher.compiled(name, mode, DIM)
        if dtype is None or compiled is None:  # this torch may be older than a dtype
            continue
        counts = counters.add_cell(Cell(COLLECTIVE, mode, DIM, name, dispatcher.world_size))
        found[dtype] = _entry(*compiled, candidate, counts)
    return found


def _entry(edges: tuple[int, ...], uses: tuple[str, ...], candidate: str, counts: list[int]) -> _Entry:
    """The runs of a cell as the predicate reads them."""
    chosen = tuple(use == candidate for use in uses)
    if not any(chosen):
        return 0, 0, (), (), counts
    first = chosen.index(True)
    last = len(chosen) - 1 - chosen[::-1].index(True)
    # The first and the last run are the baseline's, so both have an edge.
    low, high = edges[first - 1], edges[last]
    if all(chosen[first : last + 1]):
        return low, high, (), (), counts
    return low, high, edges, chosen, counts


def _checked(original: Predicate, failed: list[int]) -> Callable[[Any, list[int]], bool]:
    """Ask the communicator, where the table has chosen it."""

    def check(inp: Any, counts: list[int]) -> bool:
        try:
            taken = bool(original(inp))
        except Exception:  # noqa: BLE001 - a check that fails must not take the serving process with it
            failed[0] += 1
            return False
        counts[CANDIDATE if taken else REFUSED] += 1
        return taken

    return check


def _captured(
    state: Any,
    cells: dict[str, _Cells],
    others: dict[str, list[int]],
    check: Callable[[Any, list[int]], bool],
    index: int,
    failed: list[int],
    modes: Modes,
) -> Predicate:
    """The answer while the communicator is capturing. It is asked once per captured call, so nothing is inlined."""
    mode_now = mode_of(state, modes)

    def captured(inp: Any) -> bool:
        try:
            mode = mode_now()
            entry = cells[mode].get(inp.dtype)
            if entry is None:
                others[mode][BASELINE] += 1
                return False
            low, high, edges, chosen, counts = entry
            size = inp.nbytes
            if size <= low or size > high or (edges and not chosen[bisect_left(edges, size)]):
                counts[BASELINE] += 1
                return False
            if inp.get_device() != index:
                counts[REFUSED] += 1
                return False
        except Exception:  # noqa: BLE001 - see _checked
            failed[0] += 1
            return False
        return check(inp, counts)

    return captured


def _compose(
    state: Any,
    limit: int,
    index: int,
    cells: _Cells,
    other: list[int],
    captured: Predicate,
    check: Callable[[Any, list[int]], bool],
    failed: list[int],
) -> Predicate:
    """The predicate itself: every name that it reads is a local of this function, and none is looked up by key.

    Up to `limit` bytes the communicator's check is known and answered here, except for what is not plainly within it;
    with a negative limit, always, it is called.
    """
    find = bisect_left
    odd = ALIGNMENT - 1

    def should_custom_ag(inp: Any) -> bool:
        try:
            if state._IS_CAPTURING:  # noqa: SLF001 - AITER's own name, which the engines read too
                return captured(inp)
            low, high, edges, chosen, counts = cells[inp.dtype]
            size = inp.nbytes
            if size <= low or size > high or (edges and not chosen[find(edges, size)]):
                counts[0] += 1
                return False
            if inp.get_device() == index:
                if size > limit or size & odd or state.disabled or not inp.is_contiguous():
                    return check(inp, counts)
                counts[1] += 1
                return True
            counts[2] += 1
        except KeyError:
            other[0] += 1
        except Exception:  # noqa: BLE001 - see _checked
            failed[0] += 1
        return False

    return should_custom_ag
