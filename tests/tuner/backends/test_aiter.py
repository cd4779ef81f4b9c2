"""The adapter on AITER: every line of it on real ranks, with the stand-in, and the surface of the real thing."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ranks import STANDIN, run_ranks

from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends import Point
from ccl_dispatch.tuner.backends.aiter import MODULE, AiterBackend

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiter") is not None, reason="the real aiter is installed: the conformance suite runs it"
)

# Makes every call that a sweep makes, and every refusal; prints the lines of the adapter that were not run.
EVERY_LINE = """
from covering import Watch
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.backends.base import BackendContext, Point
from ccl_dispatch.tuner.device import HostDevice
from pathlib import Path
import ccl_dispatch.tuner.backends.base as base

watch = Watch(str(Path(base.__file__).with_name("aiter.py")))
watch.start()
from ccl_dispatch.tuner.backends.aiter import AiterBackend

where = sys.path, sys.path[:]
assert AiterBackend.unavailable() is None
os.environ["PYTHONPATH"] = sys.argv[4] + os.pathsep + os.environ["PYTHONPATH"]
broken = AiterBackend.unavailable()
assert "can't be imported: RuntimeError: no HIP" in broken, broken
import ccl_dispatch.tuner.backends.aiter as adapter
adapter._IMPORT_SECONDS = 0.01
assert "took longer than 0.01 s" in AiterBackend.unavailable()
for entry in [entry for entry in sys.path if entry.endswith("standin")]:
    sys.path.remove(entry)
sys.path_importer_cache.clear()
assert AiterBackend.unavailable() == "amd-aiter is not installed"
sys.path[:] = where[1]

device = HostDevice(graphs=True)
options = {"max_size": "1 MiB"}
assert AiterBackend.device_bytes(4096, 2, options) == 3 << 20
backend = AiterBackend(BackendContext(dist.group.WORLD, rank, world_size, device, options))
bare = AiterBackend(BackendContext(dist.group.WORLD, rank, world_size, HostDevice(), options))

def asked(
    mode="eager", dim="first", dtype="bfloat16", size=4096, shape=(), collective="all_gather", ranks=2, of=backend
):
    return of.supports(Point(Cell(collective, mode, dim, dtype, ranks), size, shape))

assert asked() is None
for reason, answer in {
    "not all_reduce": asked(collective="all_reduce"),
    "no graphs": asked(mode="graph", of=bare),
    "no kernel for 6 ranks": asked(ranks=6),
    "not int64": asked(dtype="int64"),
    "are not bfloat16": asked(size=4097),
    "multiple of 16": asked(size=8008, shape=(4, 1001)),
    "garble": asked(dim="last", size=16016, shape=(8, 1001)),
    "pool's limit of 256 KiB": asked(size=(1 << 18) + 16),
}.items():
    assert reason in answer, (reason, answer)
os.environ["AITER_STANDIN_STAGES"] = "1"
staging = AiterBackend(BackendContext(dist.group.WORLD, rank, world_size, device, options))
del os.environ["AITER_STANDIN_STAGES"]
assert "registers no inputs" in asked(mode="graph", of=staging)
assert asked(mode="graph_copy_in", of=staging) is asked(of=staging) is None
staging.close()
backend._communicator.should_custom_ag = lambda inp: False
assert "should_custom_ag says no" in asked()
del backend._communicator.should_custom_ag

for mode in ("eager", "graph", "graph_copy_in"):
    for dim in ("first", "last"):
        point = Point(Cell("all_gather", mode, dim, "float32", 2), 256, (4, 16))
        source = torch.full((4, 16), float(rank + 1))
        target = torch.zeros(point.output_shape)
        call = backend.prepare(point, source, target)
        run = call if mode == "eager" else device.capture([[call]], backend.capture)[0].replay
        run()
        parts = [torch.full((4, 16), float(sender + 1)) for sender in range(2)]
        assert torch.equal(target, torch.cat(parts, 0 if dim == "first" else 1))
bare.close()
assert "disabled" in asked(of=bare)
backend.close()
backend.close()
print(watch.stop())
"""


def test_the_standin_covers_every_line_of_the_adapter(tmp_path: Path) -> None:
    """Two real ranks on the CPU run each line of the adapter, in all modes, with each refusal."""
    broken = tmp_path / "aiter" / "dist" / "device_communicators"
    broken.mkdir(parents=True)
    for folder in (broken.parent.parent, broken.parent, broken):
        (folder / "__init__.py").touch()
    (broken / "custom_all_reduce.py").write_text("raise RuntimeError('no HIP')\n")
    assert run_ranks(EVERY_LINE, 2, str(tmp_path), standin=True) == ["[]\n"] * 2


# The stand-in asked directly for what the adapter refuses: each known failure is there.
FAILURES = """
from aiter.dist.device_communicators.custom_all_reduce import CustomAllreduce
from ccl_dispatch.tuner.device import HostDevice

communicator = CustomAllreduce(dist.group.WORLD, "cpu", 1 << 20)

def gathered(inp, dim=0):
    shape = list(inp.shape)
    shape[dim] *= world_size
    out = torch.zeros(shape, dtype=inp.dtype)
    communicator.all_gather_unreg(inp, out=out, dim=dim)
    return out

def raised(call):
    try:
        call()
    except RuntimeError as problem:
        return str(problem)

ones = torch.ones(2, 8)
assert communicator.should_custom_ag(ones)
if world_size == 6:
    assert not gathered(ones).any()  # nothing written, nothing raised
else:
    assert gathered(ones).all()
    assert "only supports float32" in raised(lambda: gathered(ones.to(torch.int64)))
    assert communicator.should_custom_ag(ones.to(torch.int64))
    odd = torch.arange(2 * 6, dtype=torch.float32).view(2, 6)  # 24 bytes a row
    assert not torch.equal(gathered(odd, -1), torch.cat([odd] * world_size, 1))
    assert "not registered" in raised(lambda: communicator.all_gather_reg(ones))
    assert not communicator.should_custom_ag(torch.ones((1 << 20) // 4 // 4 + 4))
    assert "too small" in raised(lambda: communicator.all_gather_unreg(torch.ones((1 << 18) + 4)))
    device, out = HostDevice(graphs=True), torch.zeros(4, 8)
    def call():
        if device.capturing():
            communicator.all_gather_reg(ones, out=out)
    import contextlib
    bare = device.capture([[call]], contextlib.nullcontext)[0]
    bare.replay()
    assert not out.any()  # captured outside of capture(): never registered
    device.capture([[call]], communicator.capture)[0].replay()
    assert out.all()
communicator.close()
communicator.close()
print("as known")
"""


@pytest.mark.parametrize("world_size", [2, 6])
def test_the_standin_fails_as_aiter_does(world_size: int) -> None:
    """What the adapter refuses goes wrong when it is asked for: in silence, garbled, or with an exception."""
    assert run_ranks(FAILURES, world_size, standin=True) == ["as known\n"] * world_size


# Groups of several sizes made in the wrong order: the ranks number their communicators differently and never meet.
ORDER = """
from aiter.dist.device_communicators.custom_all_reduce import CustomAllreduce
sizes = [2, 4] if sys.argv[4] == "rising" else [4, 2]
groups = {size: dist.new_group(list(range(size))) for size in sizes}
dist.distributed_c10d._get_default_store().set_timeout(datetime.timedelta(seconds=3))
try:
    made = [CustomAllreduce(groups[size], "cpu", 1 << 20) for size in sizes if rank < size]
except dist.DistError:  # the store's owner may be gone before the last rank gives up
    print("never met")
else:
    print("met")
os._exit(0)
"""


@pytest.mark.parametrize(("order", "word"), [("falling", "met\n"), ("rising", "never met\n")])
def test_communicators_of_larger_groups_must_come_first(order: str, word: str) -> None:
    """AITER numbers a process's communicators in its keys: made in rising order, ranks look in different places."""
    assert run_ranks(ORDER, 4, order, standin=True)[0] == word


@pytest.mark.parametrize("size", [16, 4096, 64 << 20, (64 << 20) + 16])
def test_a_plan_knows_the_pools_limit(size: int) -> None:
    """With the default pool of 1 GiB eight ranks may send 64 MiB each, and a plan says so without any rank."""
    point = Point(Cell("all_gather", "eager", "first", "bfloat16", 8), size)
    reason = AiterBackend.foreseen(point, {})
    assert (reason is None) == (size <= 64 << 20)


# What a serving process finds: a table that was made by a process which left AITER to its workers, on a communicator.
SERVED = """
from ccl_dispatch.runtime import install
from ccl_dispatch.runtime.probe import this_platform
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.emit.text import seal
from made_tables import make_cell, make_table
table = make_table((make_cell(Cell("all_gather", "eager", "first", "bfloat16", 2), 16, [4096], ["aiter"]),))
table = table._replace(candidates=("aiter",), provenance="measured", platform=this_platform("cpu"))
before = dict(os.environ)
from aiter.dist.device_communicators.custom_all_reduce import CustomAllreduce
communicator = CustomAllreduce(dist.group.WORLD, "cpu", 1 << 20)
done = install(communicator, seal(table))
print(sorted(set(os.environ) - set(before)), done.state, done.reason)
"""


def test_what_importing_aiter_sets_keeps_no_table_from_its_use() -> None:
    """AITER puts variables of its own into the environment; a sweep's process, which does not import it, has none."""
    assert run_ranks(SERVED, 2, standin=True) == ["['AITER_ASM_DIR', 'AITER_GPU_ARCHS'] table \n"] * 2


def _surface(path: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each method of `CustomAllreduce` in the file at `path` with its parameters and their defaults as text."""
    tree = ast.parse(Path(path).read_text())
    kind = next(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "CustomAllreduce")
    for node in kind.body:
        if isinstance(node, ast.FunctionDef):
            arguments = node.args.args
            defaults = ["" for _ in arguments[len(node.args.defaults) :]] + [ast.unparse(d) for d in node.args.defaults]
            yield node.name, [(a.arg, d) for a, d in zip(arguments, defaults, strict=True)]


# What the adapter calls, besides reading `disabled`, `world_size` and `max_size`.
CALLED = ("__init__", "should_custom_ag", "all_gather_reg", "all_gather_unreg", "capture", "close")


def _real_source() -> str:
    """The file of the real class: of the checkout that AITER_SOURCE names, or of the installed package."""
    checkout = os.environ.get("AITER_SOURCE")
    if checkout:
        return str(Path(checkout, *MODULE.split(".")).with_suffix(".py"))
    found = importlib.util.find_spec("aiter")
    if found is None:
        pytest.skip("neither is aiter installed nor does AITER_SOURCE name a checkout of it")
    return str(Path(found.submodule_search_locations[0]).parent.joinpath(*MODULE.split(".")).with_suffix(".py"))  # type: ignore[index]


def test_the_real_surface_is_the_standins() -> None:
    """Names, parameters and defaults of everything that we call are the real class's."""
    real = dict(_surface(_real_source()))
    ours = dict(_surface(str(Path(STANDIN, *MODULE.split(".")).with_suffix(".py"))))
    for name in CALLED:
        assert ours[name] == real[name], name
    text = Path(_real_source()).read_text()
    for attribute in ("disabled", "world_size", "max_size", "_IS_CAPTURING"):
        assert f"self.{attribute} = " in text


def test_the_adapter_calls_nothing_else() -> None:
    """Every attribute of the communicator that the adapter touches is one that the contract above compares."""
    tree = ast.parse(inspect.getsource(sys.modules[AiterBackend.__module__]))
    touched: set[Any] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            inner = node.value
            name = inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
            if name in {"communicator", "_communicator"}:
                touched.add(node.attr)
    assert touched == {"disabled", "max_size", "world_size", *CALLED} - {"__init__"}


def test_the_real_surface_sets_the_variables_of_the_standin() -> None:
    """The variables that AITER's `jit` package writes when it is imported are those that the stand-in writes."""
    package = Path(_real_source()).parents[2] / "jit"
    if not package.is_dir():
        pytest.skip("AITER_SOURCE has the communicator alone")
    written = set()
    for path in (package / "core.py", package / "utils" / "chip_info.py"):
        written |= set(re.findall(r"""^ *os\.environ\[["'](AITER_\w+)["']\] = """, path.read_text(), re.MULTILINE))
    standin = Path(STANDIN, "aiter", "__init__.py").read_text()
    assert written == set(re.findall(r"AITER_[A-Z_]+", standin))
