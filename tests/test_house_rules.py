"""The rules that hold the folders apart, checked on the source itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RUNTIME = sorted((ROOT / "runtime").rglob("*.py"))
HEAVY = {"torch", "optuna", "rich", "numpy"}
# What the runtime may import beside itself when it is imported: the standard library and its one dependency.
# The library's own module of SHA-256 is called one or the other, by version of Python.
LIGHT = sys.stdlib_module_names | {"yaml", "_sha2", "_sha256"}


@pytest.mark.parametrize(
    "line", ["import runtime", "import tuner.fit", "from tables import x", "from configs.y import x"]
)
def test_a_bare_folder_name_is_flagged(line: str) -> None:
    """Importing a folder by its bare name, which works in the repository's root and makes a second copy, fails lint."""
    assert "TID251" in _lint(f"{line}\n")


def test_the_namespaced_name_passes() -> None:
    """The same module under its right name is no finding, and sorts as our own code."""
    right = "import os\n\nimport yaml\n\nfrom ccl_dispatch.runtime import table\n"
    assert "TID251" not in _lint(right)
    assert "I001" not in _lint(right)
    assert "I001" in _lint(right.replace("yaml\n\n", "yaml\n"))


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runtime_stands_alone(path: Path) -> None:
    """A module of the runtime never imports the tuner, and at import time only the standard library and PyYAML."""
    tree = ast.parse(path.read_text())
    assert not [name for name in _imported(ast.walk(tree)) if name.startswith("ccl_dispatch.tuner")]
    early = {name for name in _imported(_run_at_import(tree)) if not name.startswith("ccl_dispatch.")}
    assert {name.split(".")[0] for name in early} <= LIGHT


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    """A process that imports the runtime has neither torch nor optuna nor the tuner in memory."""
    code = "import ccl_dispatch.runtime, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ccl_dispatch.runtime" in loaded
    assert not HEAVY & set(loaded)
    assert not [name for name in loaded if name.startswith("ccl_dispatch.tuner")]


def test_the_sampler_needs_only_numpy_and_optuna() -> None:
    """Whoever uses the search on its own needs neither torch nor what the command line needs."""
    code = "import ccl_dispatch.tuner.search, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"ccl_dispatch.tuner.search", "numpy", "optuna"} <= set(loaded)
    assert not {"torch", "rich", "threadpoolctl", "matplotlib"} & set(loaded)


def _lint(code: str) -> str:
    """What ruff says, under this repository's settings, of `code` as a module of the tuner."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--stdin-filename", "tuner/example.py", "-"]
    return subprocess.run(command, input=code, capture_output=True, text=True, cwd=ROOT, check=False).stdout


def _imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield f"{node.module}.{node.names[0].name}"


def _run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside functions and inside `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run_at_import(child)
