"""The plugin inside the real vLLM: its own plugin loader, its wrapper around AITER, and what gathers by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_ranks import run_ranks

PRELUDE = """
import logging, os
class Told(logging.Handler):
    lines = []
    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))
logging.getLogger("ccl_dispatch").addHandler(Told())
from vllm.distributed.device_communicators.aiter_custom_all_reduce import AiterCustomAllreduce
from vllm.distributed.device_communicators.cuda_communicator import CudaCommunicator
import vllm.plugins

class Gloo:
    # What vLLM uses instead of AITER, here over gloo.
    disabled = False
    calls = 0
    def group_start(self): ...
    def group_end(self): ...
    def all_gather(self, output, input):
        Gloo.calls += 1
        dist.all_gather(list(output.view(world_size, -1).unbind()), input.view(-1))

def build():
    made = object.__new__(CudaCommunicator)  # its constructor asks for GPUs; its gather does not
    made.world_size, made.rank_in_group, made.use_aiter_ag_rs = world_size, rank, True
    made.pynccl_comm = Gloo()
    made.aiter_ar_comm = AiterCustomAllreduce(dist.group.WORLD, torch.device("cpu"))
    # vLLM takes AITER inside of a full graph only, which a forward pass on a GPU would tell it.
    made._can_use_aiter_ag_rs = lambda sizes: sizes is None
    return made

def gather(communicator, elements, dtype=torch.bfloat16):
    inner = communicator.aiter_ar_comm.aiter_ca
    before = len(inner.calls), Gloo.calls
    mine = torch.full((elements,), float(rank + 1), dtype=dtype)
    out = communicator.all_gatherv(mine)
    want = torch.cat([torch.full((elements,), float(peer + 1), dtype=dtype) for peer in range(world_size)])
    assert torch.equal(out, want), (elements, out)
    return (inner.calls[before[0]:] or ["baseline"] * (Gloo.calls - before[1]))[0]
"""

SERVES = (
    PRELUDE
    + """
from ccl_dispatch.runtime.capacity import DELEGATES, code_digest
assert code_digest(AiterCustomAllreduce.should_custom_ag) in DELEGATES, "this vLLM's wrapper is known to the letter"
plain = build()
assert [gather(plain, n) for n in (64, 8192)] == ["unreg", "unreg"], "without the plugin AITER takes all it can"
vllm.plugins.load_general_plugins()
import ccl_dispatch.runtime.plugins.vllm as ours
ours.register()  # vLLM's workers may load plugins more than once
served = build()
print([gather(served, n) for n in (64, 512, 520, 8192)])
with served.aiter_ar_comm.capture():
    print([gather(served, n) for n in (64, 512, 520, 8192)])
two = served.all_gatherv([torch.ones(64, dtype=torch.bfloat16), torch.ones(8192, dtype=torch.bfloat16)])
print([int(part.sum().float()) for part in two], sum(level == "WARNING" for level, _ in Told.lines))
"""
)


@pytest.fixture
def settings_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM sets this when it is imported, and variables of AITER are part of what a table is valid for."""
    monkeypatch.setenv("AITER_SITUV2_A4W4", "1")


def test_both_branches_are_taken_and_right(
    settings_of_vllm: None, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plugin loaded by vLLM, `CudaCommunicator.all_gatherv` takes AITER where the table says so and its other
    communicator elsewhere, in eager and captured, with the right output on every rank.
    """
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    for output in run_ranks(SERVES, 2):
        assert output.splitlines()[-3:] == [
            "['unreg', 'unreg', 'baseline', 'baseline']",
            "['baseline', 'baseline', 'reg', 'reg']",
            "[128, 16384] 0",
        ]


TOGETHER = (
    PRELUDE
    + """
def taken(communicator, *parts):
    before = len(communicator.aiter_ar_comm.aiter_ca.calls)
    outs = communicator.all_gatherv([torch.full((n,), rank + 1, dtype=dtype) for n, dtype in parts])
    for out, (n, dtype) in zip(outs, parts):
        assert torch.equal(out, torch.arange(1, world_size + 1, dtype=dtype).repeat_interleave(n))
    return ",".join(communicator.aiter_ar_comm.aiter_ca.calls[before:]) or "baseline"

vllm.plugins.load_general_plugins()
served = build()
hidden, weights = (64, torch.bfloat16), (16, torch.float32)
print(taken(served, hidden, weights, (16, torch.int32)), taken(served, hidden, weights, (512, torch.int32)))
print(taken(served, hidden, weights, (16, torch.int64)))
from ccl_dispatch.runtime import counters
for count in counters():
    print(count.cell.dtype, count.answer, count.calls)
"""
)


def test_expert_ids_go_by_the_floats_that_aiter_takes_them_for(
    settings_of_vllm: None,
    tables: Path,
    write: Callable[..., Path],
    engine_path: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An expert layer's ids are gathered with its hidden states, by AITER only where it may take all of them. They had
    no cell, so that everything went the other way. What has no cell of its floats either still does.
    """
    table = write(tables / "floats.yaml", 1024, ("bfloat16", "float32"))
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(table))
    for output in run_ranks(TOGETHER, 2):
        assert output.splitlines()[-7:] == [
            "unreg,unreg,unreg baseline",
            "baseline",
            "bfloat16 aiter 3",
            "float32 aiter 3",
            "int32 aiter 1",
            "int32 rccl 1",
            "other rccl 1",
        ]


SPEAKS = """
from vllm.config.logging import LoggingConfig
from vllm.logger import configure_logging_if_needed
configure_logging_if_needed(LoggingConfig())
from vllm.distributed.device_communicators.aiter_custom_all_reduce import AiterCustomAllreduce
import vllm.plugins
vllm.plugins.load_general_plugins()
AiterCustomAllreduce(dist.group.WORLD, torch.device("cpu"))
"""


def test_a_table_in_use_is_told_in_vllms_log(
    settings_of_vllm: None, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With logging as vLLM sets it up, the line that says that the table is in use is there, in vLLM's form."""
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    monkeypatch.setenv("VLLM_LOGGING_STREAM", "ext://sys.stdout")
    for output in run_ranks(SPEAKS, 2):
        lines = [line for line in output.splitlines() if "asks the table" in line]
        assert len(lines) == 1, output
        assert " INFO " in lines[0]
        assert "pid=" in lines[0]


FAILS = (
    "import os\nos.environ['CCL_DISPATCH_TABLE'] = sys.argv[4 + rank]\n"
    + PRELUDE
    + """
vllm.plugins.load_general_plugins()
served = build()
print([gather(served, n) for n in (64, 8192)], sum(level == "WARNING" for level, _ in Told.lines))
"""
)


def test_a_failure_on_one_rank_leaves_all_alike(settings_of_vllm: None, tables: Path, engine_path: None) -> None:
    """Where one rank's table is missing all use vLLM's other communicator, with the right output and one warning."""
    outputs = run_ranks(FAILS, 2, str(tables / "good.yaml"), str(tables / "missing.yaml"))
    last = [output.splitlines()[-1] for output in outputs]
    assert sorted(last) == ["['baseline', 'baseline'] 0", "['baseline', 'baseline'] 1"]


AGAIN = (
    PRELUDE
    + """
import gc, weakref
gc.disable()
vllm.plugins.load_general_plugins()
for _ in range(3):
    served = build()
    taken = [gather(served, n) for n in (64, 8192)]
    communicator = weakref.ref(served.aiter_ar_comm)
    served.aiter_ar_comm.close()  # as CudaCommunicator.destroy does, which wants all of its other parts
    served.aiter_ar_comm = None
    print(taken, communicator())
"""
)


def test_a_communicator_may_be_closed_and_built_again(
    settings_of_vllm: None, tables: Path, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the table is in use, and a closed one is gone at once, with its memory on the GPU."""
    monkeypatch.setenv("CCL_DISPATCH_TABLE", str(tables / "good.yaml"))
    for output in run_ranks(AGAIN, 2):
        assert output.splitlines()[-3:] == ["['unreg', 'baseline'] None"] * 3


RAY = """
import os
from vllm.ray.ray_env import get_env_vars_to_copy
print(sorted(get_env_vars_to_copy() & {"CCL_DISPATCH", "CCL_DISPATCH_TABLE", "AITER_OURS", "NCCL_OURS"}))
"""


@pytest.mark.parametrize(
    ("prefixes", "copied"),
    [
        ("", ["NCCL_OURS"]),
        ("CCL_DISPATCH,RCCL_,AITER_,HSA_", ["AITER_OURS", "CCL_DISPATCH", "CCL_DISPATCH_TABLE", "NCCL_OURS"]),
    ],
)
def test_rays_actors_have_our_variables_where_vllm_is_told(
    prefixes: str, copied: list[str], engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/vllm.md says: vLLM copies what begins with the prefixes that it is given, and of ours nothing else."""
    for name in ("CCL_DISPATCH", "CCL_DISPATCH_TABLE", "AITER_OURS", "NCCL_OURS"):
        monkeypatch.setenv(name, "off")
    monkeypatch.setenv("VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY", prefixes)
    assert run_ranks(RAY, 1)[0].splitlines()[-1] == str(copied)


CHANGED = """
import vllm.distributed.device_communicators.aiter_custom_all_reduce as there
del there.AiterCustomAllreduce
import vllm.plugins
from ccl_dispatch.runtime.errors import InstallError
try:
    vllm.plugins.load_general_plugins()
except InstallError as problem:
    print("refused", "AiterCustomAllreduce" in str(problem))
else:
    print("served")
"""


@pytest.mark.parametrize(("state", "said"), [("on", "served"), ("strict", "refused True")])
def test_a_vllm_that_has_changed_is_left_alone(
    state: str, said: str, settings_of_vllm: None, engine_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the wrapper that the plugin hooks is gone vLLM is left as it is; strict stops it, at start."""
    monkeypatch.setenv("CCL_DISPATCH", state)
    assert run_ranks(CHANGED, 1)[0].splitlines()[-1] == said
