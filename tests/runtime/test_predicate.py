"""The predicate that takes the communicator's place: its answer where the table chooses it, and never an exception."""

from __future__ import annotations

import functools
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_check import Known, digests
from made_tables import BASELINE, cell_tables, make_cell, make_table

from ccl_dispatch.runtime import capacity
from ccl_dispatch.runtime.capacity import code_digest, known_capacity
from ccl_dispatch.runtime.dispatch import MAX_KEPT
from ccl_dispatch.runtime.predicate import Modes, Verdicts, capture_mode, make_predicate, own_modes
from ccl_dispatch.runtime.table import Table
from ccl_dispatch.runtime.vocabulary import Cell

CELL = Cell("all_gather", "eager", "first", "bfloat16", 4)
BYTES = torch.zeros(1 << 20, dtype=torch.uint8)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of `Known` counts as one whose source was read."""
    monkeypatch.setattr(capacity, "AITER_CHECKS", digests())


def _table(up_to: int = 4096) -> Table:
    cells = [
        make_cell(CELL, 16, [up_to], ["aiter"]),
        make_cell(CELL._replace(mode="graph"), 8192, [1 << 18], ["aiter"]),
    ]
    table = make_table(tuple(cells))
    return table._replace(platform=table.platform._replace(device_type="cpu"))


def _installed(communicator: Any, table: Table, **options: Any) -> Any:
    ranks = options.pop("ranks", 4)
    modes = options.pop("modes", Modes("graph"))
    return make_predicate(communicator, communicator.should_custom_ag, table, "aiter", ranks, modes)[0]


def _views() -> st.SearchStrategy[torch.Tensor]:
    """Tensors of any size, dtype and layout over one storage: contiguous, transposed, strided, empty, offset."""

    def make(rows: int, columns: int, start: int, kind: str, dtype: torch.dtype) -> torch.Tensor:
        flat = BYTES[start * dtype.itemsize :][: rows * columns * dtype.itemsize * 2].view(dtype)[: 2 * rows * columns]
        if kind == "strided":
            return flat.view(rows, 2 * columns)[:, :columns]
        if kind == "rest":
            return BYTES.view(dtype)[-rows * columns :].view(columns, rows).t() if rows * columns else flat[:0]
        whole = flat[: rows * columns].view(rows, columns)
        return whole.t() if kind == "transposed" else whole

    return st.builds(
        make,
        st.integers(0, 64),
        st.integers(0, 64),
        st.integers(0, 100),
        st.sampled_from(["whole", "whole", "transposed", "strided", "rest"]),
        st.sampled_from([torch.bfloat16, torch.float32, torch.uint8]),
    )


@settings(max_examples=300, deadline=None)
@given(cell_tables(CELL), _views(), st.integers(1, 4096).map(lambda size: size * 8), st.booleans(), st.booleans())
def test_it_is_the_tables_answer_and_the_communicators(
    cell: Any, tensor: torch.Tensor, max_size: int, disabled: bool, connected: bool
) -> None:
    """For any tensor, table and communicator the answer is: the table chooses it, and its own check says yes; whether
    that check is inlined or called.
    """
    table = make_table((cell,))
    table = table._replace(platform=table.platform._replace(device_type="cpu"))
    dtype = str(tensor.dtype).removeprefix("torch.")
    chosen = table.dispatcher("all_gather", 4).select(tensor.numel() * tensor.element_size(), dtype) == "aiter"
    for checks in (digests(), frozenset()):
        communicator = Known(max_size, fully_connected=connected)
        before, capacity.AITER_CHECKS = capacity.AITER_CHECKS, checks
        try:
            predicate = _installed(communicator, table)
        finally:
            capacity.AITER_CHECKS = before
        communicator.disabled = disabled
        expected = chosen and Known.should_custom_ag(communicator, tensor)
        assert [predicate(tensor) for _ in range(3)] == [expected] * 3


def test_a_known_check_is_not_called_for_plain_tensors(known: None) -> None:
    """Contiguous, aligned and within capacity: answered without it. Anything else asks it, each time."""
    communicator = Known(max_size=1 << 15)
    predicate = _installed(communicator, _table())
    assert predicate(torch.zeros(64, dtype=torch.bfloat16))
    assert communicator.calls == 0
    odd, strided = torch.zeros(65, dtype=torch.bfloat16), torch.zeros(64, 64, dtype=torch.bfloat16)[:, :8]
    for tensor in (odd, strided):
        assert [predicate(tensor), predicate(tensor)] == [False, False]
    assert communicator.calls == 4
    communicator.disabled = True
    assert not predicate(torch.zeros(64, dtype=torch.bfloat16))


def test_a_check_that_somebody_wrapped_is_called(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`functools.wraps` gives a function another one's source: its own words were passed over, and a tensor that it
    refuses was taken.
    """

    class Wrapper:
        def __init__(self) -> None:
            self._impl = Known()

        def should_custom_ag(self, inp: torch.Tensor) -> bool:
            return self._impl.should_custom_ag(inp)

    own = Wrapper.should_custom_ag
    monkeypatch.setattr(capacity, "DELEGATES", frozenset((code_digest(own),)))
    assert known_capacity(Wrapper().should_custom_ag) is not None

    @functools.wraps(own)
    def never(_self: Wrapper, inp: torch.Tensor) -> bool:
        return inp.numel() < 0

    monkeypatch.setattr(Wrapper, "should_custom_ag", never)
    assert not _installed(Wrapper(), _table())(torch.zeros(64, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(0, dtype=torch.bfloat16),
        torch.zeros(64, dtype=torch.complex64),
        SimpleNamespace(dtype=torch.bfloat16, nbytes=128, get_device=lambda: 1, is_contiguous=lambda: True),
        SimpleNamespace(dtype=torch.bfloat16, nbytes=16384, get_device=lambda: 1, is_contiguous=lambda: True),
        "no tensor",
        None,
        SimpleNamespace(dtype=[], nbytes=64),
        SimpleNamespace(dtype=torch.bfloat16, nbytes=float("nan")),
        SimpleNamespace(dtype=torch.bfloat16, nbytes=-64),
    ],
    ids=lambda odd: str(getattr(odd, "shape", odd))[:30],
)
@pytest.mark.parametrize("capturing", [False, True])
def test_nothing_raises_and_the_answer_is_the_baseline(odd: Any, capturing: bool, known: None) -> None:
    """Empty, of a dtype without a cell, on another device, or no tensor at all."""
    communicator = Known()
    predicate = _installed(communicator, _table())
    communicator._IS_CAPTURING = capturing
    assert predicate(odd) is False


def test_the_mode_is_that_of_the_communicator() -> None:
    """While capturing the captured mode's cell decides, warm-up included; between pieces the staged one."""
    piecewise = [False]
    communicator = Known()
    predicate = _installed(communicator, _table(), modes=Modes("graph", lambda: piecewise[0]))
    small, large = torch.zeros(64, dtype=torch.bfloat16), torch.zeros(8192, dtype=torch.bfloat16)
    assert [predicate(small), predicate(large)] == [True, False]
    communicator._IS_CAPTURING = True
    assert [predicate(small), predicate(large)] == [False, True]
    piecewise[0] = True
    assert [predicate(small), predicate(large)] == [False, False]
    for built, mode in ((True, "graph"), (False, "graph_copy_in")):
        assert capture_mode(SimpleNamespace(_IS_CAPTURING=False, enable_register_for_capturing=built)) == mode
        inner = SimpleNamespace(_IS_CAPTURING=False, enable_register_for_capturing=built)
        assert capture_mode(SimpleNamespace(_impl=inner)) == mode


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_communicator_may_choose_its_mode_when_a_capture_begins(wrapped: bool) -> None:
    """AITER registers inputs or stages them as the allocator is set when a capture begins, whatever held before."""
    inner: Any = Known()
    inner.enable_register_for_capturing = False
    outer = SimpleNamespace(_impl=inner, should_custom_ag=inner.should_custom_ag) if wrapped else inner
    predicate = _installed(outer, _table(), modes=own_modes(outer))
    large = torch.zeros(8192, dtype=torch.bfloat16)  # the table has it in mode graph, and no cell of graph_copy_in
    inner._IS_CAPTURING = True
    assert predicate(large) is False
    inner.enable_register_for_capturing = True
    assert predicate(large) is True


@pytest.mark.parametrize("source", ["known", "unknown"])
def test_a_call_in_another_ones_capture_is_staged(source: str, request: pytest.FixtureRequest) -> None:
    """While only the communicator around captures the cell of staged inputs answers; its own capture comes first."""
    if source == "known":
        request.getfixturevalue("known")
    communicator, around = Known(), SimpleNamespace(_IS_CAPTURING=False)
    table = _table()
    staged = make_cell(CELL._replace(mode="graph_copy_in"), 16, [256], ["aiter"])
    table = table._replace(cells=(*table.cells, staged))
    predicate = _installed(communicator, table, modes=Modes("graph", around=around))
    tensors = [torch.zeros(elements, dtype=torch.bfloat16) for elements in (64, 512, 8192)]

    def answers() -> list[bool]:
        return [predicate(tensor) for tensor in tensors]

    assert answers() == [True, True, False]
    around._IS_CAPTURING = True
    assert answers() == [True, False, False]
    communicator._IS_CAPTURING = True
    assert answers() == [False, False, True]
    communicator._IS_CAPTURING, around._IS_CAPTURING = False, False
    assert answers() == [True, True, False]
    communicator.disabled = True
    assert answers() == [False, False, False]


def test_a_dtype_may_go_by_the_cell_of_another(known: None) -> None:
    """One that the communicator runs as another of its size has that one's answers, unless the table has its own."""
    table = _table()
    table = table._replace(cells=(*table.cells, make_cell(CELL._replace(dtype="int16"), 16, [256], ["aiter"])))
    views = (("int16", "bfloat16"), ("uint16", "bfloat16"))
    predicate = _installed(Known(), table, modes=Modes("graph", views=views))
    small, large = (torch.zeros(size, dtype=torch.uint8) for size in (128, 1024))
    for dtype, said in ((torch.bfloat16, (True, True)), (torch.int16, (True, False)), (torch.uint16, (True, True))):
        assert (predicate(small.view(dtype)), predicate(large.view(dtype))) == said, dtype
    assert not predicate(small.view(torch.float16))
    assert {count.cell.dtype for count in predicate.ccl_dispatch_counters.read()} == {
        "bfloat16",
        "int16",
        "uint16",
        "other",
    }


def test_memory_is_bounded_and_freed(known: None) -> None:
    """More sizes than are kept are answered all the same, and nothing is left of a predicate that is gone."""
    predicate = _installed(Known(1 << 28), _table(1 << 24))
    dispatcher = _table(1 << 24).dispatcher("all_gather", 4)
    for size in range(16, 16 * 6000, 16):
        tensor = BYTES[:size].view(torch.bfloat16)
        assert predicate(tensor) == (dispatcher.select(size) != BASELINE)
    gone = weakref.ref(predicate.ccl_dispatch_counters)
    del predicate
    gc.collect()
    assert gone() is None


def test_so_many_verdicts_are_kept_and_no_more() -> None:
    """Those of the sizes that were asked for first; every one, kept or not, is the table's with the known limit's."""
    verdicts = Verdicts((64, 1 << 17), (False, True, False), 1 << 16)
    sizes = range(8, 8 * (MAX_KEPT + 100), 8)
    expected = [0 if size <= 64 or size > 1 << 17 else 2 if size % 16 or size > 1 << 16 else 1 for size in sizes]
    for _ in range(2):
        assert [verdicts[size] for size in sizes] == expected
        assert list(verdicts) == list(sizes)[:MAX_KEPT]


def test_torch_compile_calls_it_and_does_not_trace_it(known: None) -> None:
    """Opaque by intent: a compiled function breaks its graph at the predicate, which decides and counts on every call,
    and is never compiled itself; inside of a custom operator, where the engines have it, there is no break at all.
    """
    import torch._dynamo.testing

    predicate = _installed(Known(), _table())
    compiled_frames = torch._dynamo.testing.CompileCounter()

    def step(tensor: torch.Tensor) -> torch.Tensor:
        doubled = tensor * 2
        return doubled + 1 if predicate(doubled) else doubled - 1

    compiled = torch.compile(step, backend=compiled_frames)
    ones = torch.ones(64, dtype=torch.bfloat16)
    assert [float(compiled(ones)[0]) for _ in range(20)] == [3.0] * 20
    assert compiled_frames.frame_count == 2, "the two pieces around it, and nothing for each new count"
    assert {count.answer: count.calls for count in predicate.ccl_dispatch_counters.read()} == {"aiter": 20}

    @torch.library.custom_op("ccl_dispatch_test::gather", mutates_args=())
    def gather(tensor: torch.Tensor) -> torch.Tensor:
        return tensor + 1 if predicate(tensor) else tensor - 1

    gather.register_fake(torch.empty_like)
    whole = torch.compile(lambda tensor: gather(tensor * 2), backend="eager", fullgraph=True)
    assert float(whole(ones)[0]) == 3.0


class Wordless(Exception):
    """An exception that can't even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("size", [64, 8192])
@pytest.mark.parametrize("problem", [RuntimeError("out of memory"), Wordless()])
def test_the_first_call_that_could_not_be_decided_is_told(
    size: int, problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that raises, in eager or while capturing, is answered by the baseline and told once with its words, since
    other ranks may take the candidate and the job hang.
    """

    class Failing(Known):
        def should_custom_ag(self, inp: torch.Tensor) -> bool:
            raise problem

    communicator = Failing()
    communicator._IS_CAPTURING = size > 4096
    predicate = _installed(communicator, _table())
    assert predicate(BYTES[:size].view(torch.bfloat16)) is False
    assert len(caplog.records) == (type(problem) is RuntimeError), "the very first one may be the one that hangs"
    assert [predicate(BYTES[:size].view(torch.bfloat16)) for _ in range(2)] == [False] * 2
    assert [predicate("no tensor"), predicate.ccl_dispatch_counters.failed] == [False, [4]]
    assert caplog.text.count("takes the baseline: RuntimeError: out of memory") == (type(problem) is RuntimeError)


@pytest.mark.parametrize("device", [None, torch.device("cuda")])
def test_a_gpu_that_is_not_named_is_any(device: Any, known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a communicator that does not say which GPU is its own all ranks take a tensor on theirs, whichever of them had
    set it as the current one before the installation; a tensor on the CPU is refused.
    """
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    table = _table()
    table = table._replace(platform=table.platform._replace(device_type="cuda"))
    communicator = Known()
    communicator.should_custom_ag = lambda inp: True  # type: ignore[method-assign]
    communicator.device = device  # type: ignore[attr-defined]
    predicate = _installed(communicator, table)
    for index, taken in ((0, True), (1, True), (-1, False)):
        inp = SimpleNamespace(
            dtype=torch.bfloat16, nbytes=64, get_device=lambda index=index: index, is_contiguous=lambda: True
        )
        assert predicate(inp) is taken


@pytest.mark.parametrize(
    ("own", "inner", "index"),
    [
        (None, None, -1),
        (None, "cuda:3", 3),
        (torch.device("cuda", 2), "cuda:3", 2),
        (1, "cuda:3", 1),
        ("cpu", "cuda:3", -1),
    ],
)
def test_a_communicators_device_goes_before_that_of_what_it_wraps(own: Any, inner: str | None, index: int) -> None:
    """A number is a GPU's; where neither names one it is of the table's kind. A tensor elsewhere is refused."""
    communicator = SimpleNamespace(
        device=own, _impl=SimpleNamespace(device=inner), should_custom_ag=lambda inp: True, _IS_CAPTURING=False
    )
    predicate = _installed(communicator, _table())
    for other in (-1, 0, 1, 2, 3):
        inp = SimpleNamespace(
            dtype=torch.bfloat16, nbytes=64, get_device=lambda other=other: other, is_contiguous=lambda: True
        )
        assert predicate(inp) is (other == index)


def test_torch_may_grow_while_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread that imports a part of torch puts a name into it; the rank had no predicate then, and all ranks
    the baseline.
    """

    class Importing:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            for number in range(100):
                monkeypatch.setattr(torch, f"a_part_of_it_{number}", number, raising=False)
            return int

    monkeypatch.setattr(torch, "a_part_of_it", Importing(), raising=False)
    assert _installed(Known(), _table())(torch.zeros(64, dtype=torch.bfloat16))
