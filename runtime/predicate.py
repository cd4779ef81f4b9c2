"""The predicate that takes a communicator's `should_custom_ag` place: the table's answer and the communicator's own.

A call reads the tensor's dtype and bytes, finds what was worked out for that size when it was first seen, and adds one
to a count. The communicator's check is part of what was worked out where it is known to the letter (`capacity.py`), and
is called where it is not.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

from ccl_dispatch.runtime.capacity import ALIGNMENT, Capacity, known_capacity
from ccl_dispatch.runtime.counting import BASELINE, CANDIDATE, REFUSED, Counters, keep
from ccl_dispatch.runtime.dispatch import MAX_KEPT, Answers, Dispatcher
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.telling import warn_once
from ccl_dispatch.runtime.vocabulary import MODES, Cell, dtype_name

COLLECTIVE = "all_gather"
DIM = "first"

Predicate = Callable[[Any], bool]

# What is kept of a size: the baseline; the candidate, whose check is known to take it when it is contiguous, on the
# right device and not disabled; or that the candidate is chosen and has to be asked.
_NO, _YES, _ASK = 0, 1, 2

# By dtype, one of these for each size, and the counts.
_Cells = dict[Any, "tuple[Answers, list[int]]"]


class Modes(NamedTuple):
    """How a communicator's calls run, by its capture state.

    Attributes:
        captured: the mode of a call while the communicator is capturing, be it the captured call itself or the warm-up
            before it, which has to decide alike: `graph`, or `graph_copy_in` where inputs are staged.
        piecewise: None, or true while calls of a capturing communicator run outside of a graph and stage their input
            (SGLang's piecewise graphs); asked while capturing only.
        own: calls run as the communicator says at each of them, and `captured` is what it says now.
        around: None, or another communicator. While that one alone is capturing, calls of this one are captured as
            well, and stage their input, since this one does not know of the capture.
        views: dtypes that the communicator runs as another one of their size, each with that: the same kernel on the
            same bytes, so that the other one's cell answers where the table has none of the dtype's own.
    """

    captured: str
    piecewise: Callable[[], bool] | None = None
    own: bool = False
    around: Any = None
    views: tuple[tuple[str, str], ...] = ()


def own_modes(communicator: Any) -> Modes:
    """How calls run where it is the communicator that chooses, as AITER's `custom_all_gather` does."""
    return Modes(capture_mode(communicator), own=True)


def capture_mode(communicator: Any) -> str:
    """`graph_copy_in` for a communicator that stages its input while capturing, else `graph`.

    AITER says so by `enable_register_for_capturing`, also inside vLLM's wrapper: as it was built, and from 0.1.26 on as
    it decides whenever a capture begins, by whether the allocator's segments are expandable then.
    """
    registers = getattr(_state_of(communicator), "enable_register_for_capturing", True)
    return "graph" if registers else "graph_copy_in"


def mode_of(communicator: Any, modes: Modes) -> Callable[[], str]:
    """A callable that says how a call of `communicator` that is made now runs."""
    state = _state_of(communicator)
    piecewise = modes.piecewise
    around = modes.around

    def mode() -> str:
        if not getattr(state, "_IS_CAPTURING", False):
            return "graph_copy_in" if getattr(around, "_IS_CAPTURING", False) else "eager"
        if piecewise is not None and piecewise():
            return "graph_copy_in"
        return capture_mode(communicator) if modes.own else modes.captured

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
    counters = Counters(table.baseline, candidate, label)
    state = _state_of(communicator)
    capacity = known_capacity(original) or Capacity(state, -1)
    dispatcher = table.dispatcher(COLLECTIVE, ranks)
    views = dict(modes.views)
    cells = {mode: _cells(dispatcher, counters, mode, candidate, capacity.limit, views) for mode in MODES}
    index = _device_index(communicator, table.platform.device_type)
    fail = _failure(counters.failed)
    ask = _asker(original, index, fail)
    asked = capacity.state if hasattr(state, "_IS_CAPTURING") else _NEVER_CAPTURING
    predicate = _compose(
        state=asked if modes.around is None else _Within(asked, modes.around),
        index=index,
        cells=cells["eager"],
        captured=_captured(mode_of(communicator, modes), cells, ask, fail),
        ask=ask,
        fail=fail,
    )
    make_opaque(predicate)
    # The counts are there as long as the predicate is, also where nobody keeps the installation.
    predicate.ccl_dispatch_counters = counters  # type: ignore[attr-defined]
    return predicate, keep(counters)


def make_opaque(predicate: Callable[..., Any]) -> None:
    """Have torch.compile call `predicate` instead of tracing it: it decides and counts when it is called.

    Dynamo knows functions by an attribute, and the frames that it meets at run time by their code. Both are set here
    without importing Dynamo, which would take seconds.
    """
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


class _Within:
    """Stands for the state of a communicator whose calls are captured in another one's captures too."""

    __slots__ = ("_around", "_own")

    def __init__(self, own: Any, around: Any) -> None:
        self._own = own
        self._around = around

    @property
    def _IS_CAPTURING(self) -> bool:  # noqa: N802 - AITER's own name
        return bool(self._own._IS_CAPTURING or getattr(self._around, "_IS_CAPTURING", False))  # noqa: SLF001

    @property
    def disabled(self) -> bool:
        return bool(self._own.disabled)


def _state_of(communicator: Any) -> Any:
    """The object that has the capture state: the communicator, or what vLLM's wrapper has inside."""
    if hasattr(communicator, "_IS_CAPTURING"):
        return communicator
    return getattr(communicator, "_impl", communicator)


def _device_index(communicator: Any, device_type: str) -> int | None:
    """What `tensor.get_device()` says of the communicator's device: its index, -1 for the CPU; None for some GPU.

    A communicator that does not name its device is on one of the table's `device_type`. Which GPU is current now is not
    asked: a rank may set its own later than another, and would then refuse what the other takes.
    """
    import torch

    named = getattr(communicator, "device", None)
    if named is None:
        named = getattr(getattr(communicator, "_impl", None), "device", None)
    device = torch.device(device_type if named is None else f"cuda:{named}" if isinstance(named, int) else named)
    if device.type == "cpu":
        return -1
    index: Any = device.index  # None for "cuda", whatever torch's types say
    return None if index is None else int(index)


def _cells(
    dispatcher: Dispatcher, counters: Counters, mode: str, candidate: str, limit: int, views: dict[str, str]
) -> _Cells:
    """Every torch dtype has its answers; of one that the table does not hold they are all the baseline."""
    import torch

    name = Cell(COLLECTIVE, mode, DIM, "other", dispatcher.world_size)
    nothing = (Verdicts((), (False,), limit), counters.other.setdefault(name, [0, 0, 0]))
    # Of a copy: another thread may be importing a part of torch, which is then one name more in there.
    found: _Cells = {dtype: nothing for dtype in list(vars(torch).values()) if isinstance(dtype, torch.dtype)}
    for dtype in found:
        own = dtype_name(dtype)
        compiled = dispatcher.compiled(own, mode, DIM) or dispatcher.compiled(views.get(own, own), mode, DIM)
        if compiled is not None:
            edges, uses = compiled
            counts = counters.add_cell(name._replace(dtype=own))
            found[dtype] = (Verdicts(edges, tuple(use == candidate for use in uses), limit), counts)
    return found


class Verdicts(Answers):
    """The answers of a cell as the predicate needs them, with the known part of the communicator's check."""

    __slots__ = ("_limit",)

    def __init__(self, edges: tuple[int, ...], chosen: tuple[bool, ...], limit: int) -> None:
        super().__init__(edges, chosen)
        self._limit = limit

    def __missing__(self, size: int) -> int:
        if not self._values[bisect_left(self._edges, size)]:
            verdict = _NO
        else:
            verdict = _YES if size <= self._limit and size % ALIGNMENT == 0 else _ASK
        if len(self) < MAX_KEPT:
            self[size] = verdict
        return verdict


def _failure(failed: list[int]) -> Callable[[Exception], None]:
    """What is done with a call that gives no answer: it is counted, and the first one is told.

    It has to be told: the other ranks may have an answer, and then the job hangs in this very call.
    """

    def fail(problem: Exception) -> None:
        failed[0] += 1
        if failed[0] == 1:
            with contextlib.suppress(Exception):  # an exception may even fail to say what it is
                warn_once(
                    f"a call could not be decided and takes the baseline: {type(problem).__name__}: {problem}. "
                    "If the job hangs now, other ranks took another way: restart it with $CCL_DISPATCH=off"
                )

    return fail


def _asker(
    original: Predicate, index: int | None, fail: Callable[[Exception], None]
) -> Callable[[Any, list[int]], bool]:
    """Ask the communicator about a tensor for which the table has chosen it."""

    def ask(inp: Any, counts: list[int]) -> bool:
        try:
            device = inp.get_device()
            taken = (device == index if index is not None else device >= 0) and bool(original(inp))
        except Exception as problem:  # noqa: BLE001 - a check that fails must not take the serving process with it
            fail(problem)
            return False
        counts[CANDIDATE if taken else REFUSED] += 1
        return taken

    return ask


def _captured(
    mode_now: Callable[[], str],
    cells: dict[str, _Cells],
    ask: Callable[[Any, list[int]], bool],
    fail: Callable[[Exception], None],
) -> Predicate:
    """The answer while the communicator is capturing; asked once per captured call, so the check is not inlined."""

    def captured(inp: Any) -> bool:
        try:
            verdicts, counts = cells[mode_now()][inp.dtype]
            if verdicts[inp.nbytes] != _NO:
                return ask(inp, counts)
            counts[BASELINE] += 1
        except Exception as problem:  # noqa: BLE001 - see _asker
            fail(problem)
        return False

    return captured


def _compose(
    state: Any,
    index: int | None,
    cells: _Cells,
    captured: Predicate,
    ask: Callable[[Any, list[int]], bool],
    fail: Callable[[Exception], None],
) -> Predicate:
    """The predicate itself: all that it reads are locals of this function and constants."""

    def should_custom_ag(inp: Any) -> bool:
        try:
            if state._IS_CAPTURING:  # noqa: SLF001 - AITER's own name, which the engines read too
                return captured(inp)
            verdicts, counts = cells[inp.dtype]
            verdict = verdicts[inp.nbytes]
            if verdict == 0:
                counts[0] += 1
                return False
            if verdict == 1 and inp.get_device() == index and inp.is_contiguous() and not state.disabled:
                counts[1] += 1
                return True
        except Exception as problem:  # noqa: BLE001 - see _asker
            fail(problem)
            return False
        return ask(inp, counts)

    return should_custom_ag
