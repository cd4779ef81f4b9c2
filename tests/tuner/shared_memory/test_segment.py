"""Segments: one memory in several processes, without a name, and gone with its last user."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from named_memory import named_memory

from ccl_dispatch.tuner.shared_memory import Segment

# A forked child here runs this package's code alone: it needs no lock that another thread of the tests may hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_an_unrelated_process_sees_and_changes_the_same_bytes() -> None:
    """A process that is given the address alone reads what was written here, and what it writes is read here."""
    segment = Segment.create(8192)
    segment.map[4096:4101] = b"hello"
    code = (
        "import sys\n"
        "from ccl_dispatch.tuner.shared_memory.segment import Segment, SegmentAddress\n"
        "segment = Segment.open(SegmentAddress(*map(int, sys.argv[1:])))\n"
        "assert segment.map[4096:4101] == b'hello'\n"
        "segment.map[0:3] = b'yes'\n"
    )
    where = segment.address
    words = [str(word) for word in (where.pid, where.fd, where.device, where.inode, where.size)]
    subprocess.run([sys.executable, "-c", code, *words], check=True, timeout=30)
    assert segment.map[0:3] == b"yes"
    segment.close_fd()


def test_a_child_inherits_by_descriptor() -> None:
    """A forked child that attaches by descriptor maps the same memory at its full size."""
    segment = Segment.create(4096)
    child = os.fork()
    if child == 0:
        mapped = Segment.attach(segment.fd)
        mapped.map[7] = 9 if mapped.size == 4096 else 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert segment.map[7] == 9
    segment.close_fd()


def test_starts_zeroed_and_appears_in_no_folder() -> None:
    """New memory is zero, and /dev/shm has the same entries as before."""
    before = named_memory()
    segment = Segment.create(1 << 16)
    assert bytes(segment.map[:]) == bytes(1 << 16)
    assert named_memory() <= before
    segment.close_fd()


def test_another_file_behind_the_descriptor_is_refused() -> None:
    """When the descriptor is another file by now, opening fails, names the pid, and leaks no descriptor."""
    segment = Segment.create(4096)
    stranger = replace(segment.address, inode=segment.address.inode + 1)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match=f"process {os.getpid()} is another one"):
        Segment.open(stranger)
    assert len(os.listdir("/proc/self/fd")) == open_before
    segment.close_fd()


def test_an_address_of_the_wrong_size_leaks_no_descriptor() -> None:
    """A size that the file does not have is refused, and the descriptor that was opened for it is closed."""
    segment = Segment.create(4096)
    open_before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ValueError, match="greater than file size"):
        Segment.open(replace(segment.address, size=1 << 20))
    assert len(os.listdir("/proc/self/fd")) == open_before
    segment.close_fd()


def test_an_owner_that_is_gone_is_an_error() -> None:
    """The address of a process that has ended can't be opened."""
    segment = Segment.create(4096)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    assert not Path(f"/proc/{ended.pid}").exists()
    with pytest.raises(FileNotFoundError):
        Segment.open(replace(segment.address, pid=ended.pid))
    segment.close_fd()


def test_the_mapping_outlives_the_descriptor_and_closing_twice_is_harmless() -> None:
    """After close_fd, once or twice, the memory is still there."""
    segment = Segment.create(4096)
    segment.close_fd()
    segment.close_fd()
    segment.map[1] = 5
    assert segment.map[1] == 5
