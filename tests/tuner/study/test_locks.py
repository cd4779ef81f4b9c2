"""One sweep at a time on a journal, whatever it is called and whatever the filesystem can do; and who may read it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_studies import keep_study, made_study

from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.runtime.vocabulary import Cell
from ccl_dispatch.tuner.study import SweepStudy, open_storage

CELL = Cell("all_gather", "eager", "first", "bfloat16", 8)
META, RESULTS = made_study([CELL])
_OPEN = """
import sys
from ccl_dispatch.runtime.errors import StorageError
from ccl_dispatch.tuner.study import open_storage
try:
    with open_storage(sys.argv[1], write=True):
        print("open", flush=True)
        if sys.argv[2:]:
            sys.stdin.read()
except StorageError as problem:
    print(problem)
"""
# A filesystem without locks, as Lustre mounted without -o flock.
_NO_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = %s; return -1; }
"""
_NOBODY = 65534


def _store(path: Path) -> Path:
    keep_study(path, META, RESULTS[:1])
    return path


def _tried(path: Path, environment: dict[str, str] | None = None) -> str:
    """What another process is told when it opens the journal for writing."""
    words = [sys.executable, "-c", _OPEN, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=environment)
    return done.stdout + done.stderr


@contextlib.contextmanager
def _held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Within it another process has the journal open for writing."""
    words = [sys.executable, "-c", _OPEN, str(path), "stay"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


@pytest.mark.parametrize("holder", ["itself", "other"])
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_link_to_a_journal_is_that_journal(tmp_path: Path, kind: str, holder: str) -> None:
    """While a process holds it by one name, it is in use by any other; with its end both are free."""
    path = _store(tmp_path / "s.journal")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "other.journal"
    link.symlink_to(path) if kind == "symbolic" else link.hardlink_to(path)
    first, second = (path, link) if holder == "itself" else (link, path)
    before = path.read_bytes()
    with _held(first) as process:
        told = _tried(second)
        assert f"{second} is in use by " in told
        assert (f"process {process.pid}" if kind == "symbolic" else "another process under another name") in told
        with open_storage(str(second), write=False) as storage:
            assert len(SweepStudy.load(storage, None).results()) == 1
        assert "in use" in _tried(first)
    assert _tried(second) == _tried(first) == "open\n"
    assert path.read_bytes() == before


@pytest.mark.parametrize("code", ["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def test_a_filesystem_without_locks_is_called_that(tmp_path: Path, code: str) -> None:
    """Not a journal in use: what it is and what to do is told, and nothing is left beside the journal."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "no.c").write_text(_NO_LOCKS % code)
    shim = tmp_path / "no.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "no.c")], check=True)
    folder = tmp_path / "lustre"
    folder.mkdir()
    told = _tried(folder / "s.journal", {**os.environ, "LD_PRELOAD": str(shim)})
    assert f"the filesystem of {folder} gives no locks (flock: " in told
    assert code.replace("EOPNOTSUPP", "ENOTSUP") in told.replace("EOPNOTSUPP", "ENOTSUP")
    assert "Give a --storage on a local disk, or a database" in told
    assert list(folder.iterdir()) == []
    assert _tried(folder / "s.journal") == "open\n"


@contextlib.contextmanager
def _as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter; within it this process has no rights of root."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        os.seteuid(os.getuid())
        shutil.rmtree(folder)


def test_a_journal_that_may_not_be_read_is_not_called_another_file() -> None:
    """Who lacks the permission is told so, and is not advised to move the journal away."""
    with _as_nobody() as folder:
        path = _store(folder / "s.journal")
        path.chmod(0o000)
        (folder / "inner").mkdir()
        inner = _store(folder / "inner" / "s.journal")
        inner.parent.chmod(0o000)
        if os.getuid() == 0:
            os.seteuid(_NOBODY)
        for one in (path, inner):
            with pytest.raises(StorageError) as problem, open_storage(str(one), write=False):
                pass
            told = str(problem.value)
            assert f"the journal {one} can't be read: Permission denied" in told
            assert "leave it where it is" in told
            assert "not a journal" not in told
            with pytest.raises(StorageError, match="can't be opened for writing: Permission denied"):
                open_storage(str(one), write=True).__enter__()
        os.seteuid(os.getuid())
        inner.parent.chmod(0o755)
