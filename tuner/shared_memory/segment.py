"""An anonymous shared-memory segment: it has no name in any file system, so nothing can be left behind.

A segment lives as long as some process maps it. Children take it over by file descriptor; unrelated processes of the
same user open it through `/proc/<pid>/fd`. It counts as memory of the process, not against the size of `/dev/shm`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class SegmentAddress:
    """Where another process of this host finds a segment: the owner's pid and descriptor, and the file's identity."""

    pid: int
    fd: int
    device: int
    inode: int
    size: int


class Segment:
    """`size` bytes of zeroed memory that several processes map.

    Attributes:
        map: the mapping, for `memoryview`, `torch.frombuffer` and ctypes.
        base: its address in this process.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self.map = mmap.mmap(fd, size)
        self._anchor = ctypes.c_char.from_buffer(self.map)
        self.base = ctypes.addressof(self._anchor)

    @classmethod
    def create(cls, size: int) -> Segment:
        """A new segment; memory is taken page by page as it is first written.

        Raises:
            OSError: not Linux, or the system refuses.
        """
        if sys.platform != "linux":
            raise OSError(f"shared-memory segments need Linux (memfd_create), this is {sys.platform}")
        fd = os.memfd_create("ccl-dispatch", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            return cls(fd, size)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int) -> Segment:
        """The segment behind a descriptor that this process inherited."""
        return cls(fd, os.fstat(fd).st_size)

    @property
    def address(self) -> SegmentAddress:
        """What another process needs for `open`."""
        status = os.fstat(self.fd)
        return SegmentAddress(os.getpid(), self.fd, status.st_dev, status.st_ino, self.size)

    @classmethod
    def open(cls, address: SegmentAddress) -> Segment:
        """The segment of another process.

        Raises:
            OSError: the owner is gone, belongs to another user, or lives in another pid namespace.
        """
        fd = os.open(f"/proc/{address.pid}/fd/{address.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != (address.device, address.inode):
                raise OSError(f"process {address.pid} is another one here: the ranks don't share a pid namespace")
            return cls(fd, address.size)
        except BaseException:
            os.close(fd)
            raise

    def close_fd(self) -> None:
        """Give the descriptor back; the mapping stays."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
