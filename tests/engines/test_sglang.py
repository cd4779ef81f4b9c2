"""The plugin inside the real SGLang: its own plugin loader, its own group, its own all-gather, on several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_ranks import run_ranks

# SGLang's modules are told that this is a ROCm machine; the groups then build the stand-in for AITER.
PRELUDE = """
import logging
logging.getLogger("ccl_dispatch").setLevel(logging.INFO)
class Told(logging.Handler):
    lines = []
    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))
logging.getLogger("ccl_dispatch").addHandler(Told())
import sglang.srt.distributed.parallel_state as ps
import sglang.srt.distributed.device_communicators.custom_all_reduce as car
import sglang.srt.plugins as plugins
ps.is_hip, car._is_hip, car._is_cuda = lambda: True, True, False
import types
quick = types.ModuleType("quick_all_reduce")  # needs the GPU's properties
quick.QuickAllReduce, quick.qr_rocm_arch_available = object, lambda: False
sys.modules["sglang.srt.distributed.device_communicators.quick_all_reduce"] = quick
baseline = []
real = ps.all_gather_single
def all_gather_single(output, input, group):
    baseline.append(input.nbytes)
    return real(output, input, group=group)
ps.all_gather_single = all_gather_single
def build(use_custom_allreduce=True):
    return ps.GroupCoordinator(
        [list(range(world_size))], rank, "gloo", use_pynccl=False, use_mscclpp=False,
        use_custom_allreduce=use_custom_allreduce, use_torch_symm_mem_all_reduce=False,
        use_hpu_communicator=False, use_xpu_communicator=False, group_name="tp",
    )
def gather(coordinator, elements, dtype=torch.bfloat16):
    comm = coordinator.ca_comm
    before = len(comm.calls), len(baseline)
    mine = torch.full((elements,), float(rank + 1), dtype=dtype)
    out = torch.full((elements * world_size,), -1.0, dtype=dtype)
    coordinator._all_gather_into_tensor(out, mine)
    want = torch.cat([torch.full((elements,), float(peer + 1), dtype=dtype) for peer in range(world_size)])
    assert torch.equal(out, want), (elements, out)
    return (comm.calls[before[0]:] or ["baseline"] * (len(baseline) - before[1]))[0]
"""

SERVES = (
    PRELUDE
    + """
plain = build()
assert [gather(plain, n) for n in (64, 8192)] == ["unreg", "unreg"], "without the plugin AITER takes all it can"
plugins.load_plugins()
served = build()
print([gather(served, n) for n in (64, 512, 520, 8192)])
print(gather(served, 64, torch.float16), gather(plain, 8192))
lone = build(use_custom_allreduce=False)
assert lone.ca_comm is None
print([(level, "asks the table" in line) for level, line in Told.lines])
from ccl_dispatch.runtime import counters
print(sorted((count.cell.dtype, count.answer, count.calls) for count in counters()))
"""
)


@pytest.mark.parametrize("ranks", [2, 4])
def test_both_branches_are_taken_and_right(
    ranks: int, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plugin loaded by SGLang, `_all_gather_into_tensor` takes AITER where the table says so and the process
    group elsewhere, with the right output on every rank; without it AITER takes everything.
    """
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    for output in run_ranks(SERVES, ranks):
        assert output.splitlines()[-4:] == [
            "['unreg', 'unreg', 'baseline', 'baseline']",
            "baseline unreg",
            "[('INFO', True)]",
            "[('bfloat16', 'aiter', 2), ('bfloat16', 'rccl', 2), ('other', 'rccl', 1)]",
        ]


CAPTURES = (
    PRELUDE
    + """
plugins.load_plugins()
served = build()
comm = served.ca_comm
out, mine = torch.empty(8192 * world_size, dtype=torch.bfloat16), torch.ones(8192, dtype=torch.bfloat16)
small_out, small = torch.ones(64 * world_size, dtype=torch.bfloat16), torch.ones(64, dtype=torch.bfloat16)
capturing, piecewise = [False], [False]
torch.cuda.is_current_stream_capturing = lambda: capturing[0]
ps.is_in_tc_piecewise_cuda_graph = lambda: piecewise[0]
def step(output, input):
    before = len(comm.calls), len(baseline)
    served._all_gather_into_tensor(output, input)
    return (comm.calls[before[0]:] or (["baseline"] if len(baseline) > before[1] else ["zeroed"]))[0]
with comm.capture():
    print("warm-up", step(out, mine), step(small_out, small))
    capturing[0] = True
    print("captured", step(out, mine), step(small_out, small))
    piecewise[0] = True
    print("piece", step(out, mine), step(small_out, small))
    capturing[0] = False
    print("between", step(out, mine), step(small_out, small))
print("eager", step(out, mine), step(small_out, small))
"""
)


@pytest.mark.parametrize(
    ("copy_in", "captured"),
    [
        ("", ["warm-up zeroed baseline", "captured reg baseline", "piece reg baseline"]),
        ("1", ["warm-up baseline zeroed", "captured baseline unreg", "piece baseline unreg"]),
    ],
)
def test_the_mode_follows_sglangs_capture_state(
    copy_in: str,
    captured: list[str],
    tables: Path,
    write: Callable[..., Path],
    engine_path: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Warm-up decides as capture does; a captured call goes by the cell of registered inputs, or of staged ones where
    SGLang stages them, as it always does between the pieces of a graph; eager calls go by their own cell.
    """
    if copy_in:
        monkeypatch.setenv("SGLANG_AITER_CAPTURE_COPY_IN", copy_in)
    # Written now: a variable that changes how AITER runs is part of what a table is valid for.
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(write(tables / "now.yaml", 1024)))
    for output in run_ranks(CAPTURES, 2):
        assert output.splitlines()[-5:] == [*captured, "between baseline unreg", "eager baseline unreg"]


WITHIN = (
    PRELUDE
    + """
import contextlib
plugins.load_plugins()
ps._TP = build()
ps._PP, ps._ATTN_CP, ps._ATTN_TP = build(False), build(), build()
# Streams, which the CPU has not, are all that is taken away from SGLang's own capture.
ps.get_current_device_stream_fast = lambda: None
for group in (ps._TP, ps._PP, ps._ATTN_TP):
    group.device_module = types.SimpleNamespace(stream=lambda stream: contextlib.nullcontext())
stream = types.SimpleNamespace(wait_stream=lambda other: None)
capturing = [False]
torch.cuda.is_current_stream_capturing = lambda: capturing[0]
def said(group):
    return [group.ca_comm.should_custom_ag(torch.ones(n, dtype=torch.bfloat16)) for n in (64, 512, 8192)]
print("eager", said(ps._ATTN_CP), said(ps._ATTN_TP))
with ps.get_parallel().override(tp_group=ps._TP, pp_group=ps._PP), ps.graph_capture(stream):
    print("warm-up", said(ps._ATTN_CP), said(ps._ATTN_TP))
    capturing[0] = True
    print("captured", said(ps._ATTN_CP), said(ps._ATTN_TP))
    print([gather(ps._ATTN_CP, n) for n in (64, 512)])
print("eager", said(ps._ATTN_CP), said(ps._ATTN_TP))
"""
)


def test_a_group_that_takes_no_part_in_the_capture_goes_by_staged_calls(
    tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SGLang's capture leaves out the group of context-parallel attention, whose calls it captures with staged input:
    they go by that mode, in the warm-up too. A group that takes part goes by registered input.
    """
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    for output in run_ranks(WITHIN, 2):
        assert output.splitlines()[-5:] == [
            "eager [True, True, False] [True, True, False]",
            "warm-up [True, False, False] [False, False, True]",
            "captured [True, False, False] [False, False, True]",
            "['unreg', 'baseline']",
            "eager [True, True, False] [True, True, False]",
        ]


FAILS = (
    PRELUDE
    + """
import ccl_dispatch.runtime.plugins.sglang as ours
fault = sys.argv[4]
if rank == 1 and fault == "plugin":
    def register():
        raise RuntimeError("this rank's plugin is broken")
    ours.register = register
if rank == 1 and fault == "table":
    os.environ["CCL_DISPATCH_TABLE"] = sys.argv[5]
if rank == 1 and fault == "communicator":
    from aiter.dist.device_communicators import custom_all_reduce as aiter
    real_init = aiter.CustomAllreduce.__init__
    def init(self, *args, **kwargs):
        real_init(self, *args, **kwargs)
        raise RuntimeError("out of memory")
    aiter.CustomAllreduce.__init__ = init
plugins.load_plugins()
served = build()
if fault == "communicator":
    out, mine = torch.empty(64 * world_size), torch.ones(64)
    served._all_gather_into_tensor(out, mine)
    print(["baseline"] * len(baseline), out.sum().item() == 64 * world_size)
else:
    print([gather(served, n) for n in (64, 8192)], True)
print(sum(level == "WARNING" for level, _ in Told.lines))
"""
)


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ("plugin", "['unreg', 'unreg'] True"),
        ("table", "['baseline', 'baseline'] True"),
        ("communicator", "['baseline'] True"),
    ],
)
def test_a_failure_on_one_rank_leaves_all_alike(
    fault: str, taken: str, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that dies on one rank, which SGLang only logs, leaves all ranks as SGLang alone has them; another table,
    or a communicator that one rank could not build, puts all on the baseline. Every gather is right, one rank warns.
    """
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    monkeypatch.setenv("CCL_DISPATCH_TIMEOUT", "2")
    outputs = [output.splitlines()[-2:] for output in run_ranks(FAILS, 2, fault, str(tables / "other.yaml"))]
    assert [lines[0] for lines in outputs] == [taken, taken]
    assert sum(int(lines[1]) for lines in outputs) == 1


STRICT = (
    PRELUDE
    + """
from ccl_dispatch.runtime.errors import InstallError
plugins.load_plugins()
try:
    build()
except InstallError as problem:
    print("refused", "digest" in str(problem))
else:
    print("served", sum(level == "WARNING" for level, _ in Told.lines))
"""
)


@pytest.mark.parametrize(("state", "said"), [("strict", "refused True"), ("off", "served 0")])
def test_the_switch_in_sglang(
    state: str, said: str, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strict stops every rank of a disagreement, though SGLang swallows what plugins raise; off does nothing."""
    monkeypatch.setenv("CCL_DISPATCH", state)
    code = f"import os\nos.environ['CCL_DISPATCH_TABLE'] = sys.argv[4 + int(rank)]\n{STRICT}"
    outputs = run_ranks(code, 2, str(tables / "good.yaml"), str(tables / "other.yaml"))
    assert [output.splitlines()[-1] for output in outputs] == [said, said]


AGAIN = (
    PRELUDE
    + """
import gc, weakref
gc.disable()
plugins.load_plugins()
for _ in range(3):
    served = build()
    taken = [gather(served, n) for n in (64, 8192)]
    communicator = weakref.ref(served.ca_comm)
    served.destroy()
    print(taken, communicator())
"""
)


@pytest.mark.parametrize("state", ["on", "record"])
def test_a_group_may_be_destroyed_and_built_again(
    state: str, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the table is in use, and the communicator of a destroyed group is gone at once, with its memory on the
    GPU, not whenever Python's garbage collector comes by.
    """
    monkeypatch.setenv("CCL_DISPATCH", state)
    monkeypatch.setenv("CCL_DISPATCH_RECORD", str(tables / "calls"))
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    taken = ["unreg", "baseline" if state == "on" else "unreg"]
    for output in run_ranks(AGAIN, 2):
        assert output.splitlines()[-3:] == [f"{taken} None"] * 3


CHANGED = (
    PRELUDE
    + """
from ccl_dispatch.runtime.errors import InstallError
del ps._AITER_CAPTURE_COPY_IN
plugins.load_plugins()
try:
    served = build()
except InstallError as problem:
    print("refused", "_AITER_CAPTURE_COPY_IN" in str(problem))
else:
    print([gather(served, n) for n in (64, 8192)], sum(level == "WARNING" for level, _ in Told.lines))
"""
)


@pytest.mark.parametrize(("state", "said"), [("on", "['unreg', 'unreg'] 1"), ("strict", "refused True")])
def test_an_sglang_that_has_changed_is_left_alone(
    state: str, said: str, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a name is gone that the plugin reads, SGLang serves as it does alone, with a warning; strict stops it."""
    monkeypatch.setenv("CCL_DISPATCH", state)
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    assert [output.splitlines()[-1] for output in run_ranks(CHANGED, 2)] == [said, said]
