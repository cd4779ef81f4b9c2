"""POSIX semaphores in shared memory, through libc.

They are what lets plain Python order memory between processes on any architecture: POSIX (base definitions 4.12) makes
`sem_post` and `sem_wait` synchronise memory, which a flag polled from Python would not. A waiter sleeps in the kernel,
so more ranks than cores don't starve each other; where every rank has a core, a short spin saves the wake-up.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time

# sizeof(sem_t) is 32 on 64-bit glibc and musl; one per cache line keeps ranks off each other's lines.
STRIDE = 64

_CLOCK_MONOTONIC = 1

# PyDLL keeps the interpreter lock: right for calls that never block. CDLL gives it up while the caller sleeps.
_quick = ctypes.PyDLL(None, use_errno=True)
_blocking = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


_quick.sem_post.argtypes = [ctypes.c_void_p]
_quick.sem_trywait.argtypes = [ctypes.c_void_p]
_quick.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]
# Waiting on the monotonic clock survives clock jumps; libcs older than glibc 2.30 only have the wall clock.
_clockwait = getattr(_blocking, "sem_clockwait", None)
if _clockwait is not None:
    _clockwait.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Timespec)]
_blocking.sem_timedwait.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Timespec)]

_post = _quick.sem_post
_trywait = _quick.sem_trywait


class Semaphores:
    """`count` counting semaphores at `address`, `STRIDE` bytes apart, shared by all processes that map the memory."""

    def __init__(self, address: int, count: int) -> None:
        self._addresses = [address + index * STRIDE for index in range(count)]

    def initialise(self) -> None:
        """Set every semaphore to zero. Exactly one process does this, before any other uses them."""
        for address in self._addresses:
            if _quick.sem_init(address, 1, 0) != 0:
                raise OSError(ctypes.get_errno(), "sem_init failed")

    def post(self, index: int) -> None:
        """Add one; wakes a waiter."""
        if _post(self._addresses[index]) != 0:
            raise OSError(ctypes.get_errno(), f"sem_post failed: {os.strerror(ctypes.get_errno())}")

    def wait(self, index: int, timeout: float, spin_seconds: float = 0.0) -> None:
        """Take one, waiting at most `timeout` seconds, the first `spin_seconds` of them without sleeping.

        Raises:
            TimeoutError: nobody posted in time.
        """
        address = self._addresses[index]
        if _trywait(address) == 0:
            return
        if spin_seconds > 0.0:
            until = time.perf_counter() + spin_seconds
            while time.perf_counter() < until:
                if _trywait(address) == 0:
                    return
        self._sleep(address, timeout)

    def _sleep(self, address: int, timeout: float) -> None:
        now = time.clock_gettime(time.CLOCK_MONOTONIC if _clockwait is not None else time.CLOCK_REALTIME)
        until = now + timeout
        moment = _Timespec(int(until), int((until - int(until)) * 1e9))
        while True:
            if _clockwait is not None:
                done = _clockwait(address, _CLOCK_MONOTONIC, ctypes.byref(moment))
            else:
                done = _blocking.sem_timedwait(address, ctypes.byref(moment))
            if done == 0:
                return
            code = ctypes.get_errno()
            if code == errno.ETIMEDOUT:
                raise TimeoutError(f"no other rank came within {timeout:g} s")
            if code != errno.EINTR:
                raise OSError(code, f"sem_wait failed: {os.strerror(code)}")
