"""Signals that wait for the end of what they must not tear in two."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from functools import partial
from types import FrameType

import pytest
from interrupting import interrupt, interrupted_at

from ccl_dispatch.tuner import interrupts
from ccl_dispatch.tuner.cli import main
from ccl_dispatch.tuner.interrupts import TerminatedError, handled, uninterrupted


def _take(parts: list[str]) -> None:
    parts.append("a")
    parts.append("b")
    parts.append("c")


def _twice(parts: list[str]) -> None:
    uninterrupted(lambda: _take(parts))
    uninterrupted(lambda: _take(parts))


def _twice_as_one(parts: list[str]) -> None:
    uninterrupted(lambda: _twice(parts))


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError), (signal.SIGHUP, TerminatedError)],
)
def test_an_operation_is_whole_or_not_begun(number: signal.Signals, kind: type[BaseException]) -> None:
    """A signal at any line of two operations is raised once, at the end of one; no part of one is missing.

    Also where one operation is within another one: then at the end of the outer one.
    """
    for use, wholes in ((_twice, {0, 3, 6}), (_twice_as_one, {0, 6})):
        moment, met = 0, 0
        while True:
            moment += 1
            parts: list[str] = []
            with handled():
                came, raised = interrupt(partial(use, parts), moment, lambda: signal.raise_signal(number))
                uninterrupted(lambda: None)  # nothing is left over
            if not came:
                break
            assert type(raised) is kind
            assert len(parts) in wholes
            met += len(parts) == max(wholes)
        assert moment > 20
        assert met > 3


def test_a_second_signal_is_raised_at_once() -> None:
    """Whoever presses Ctrl-C twice waits for nothing; the next operation is guarded again."""
    parts: list[str] = []
    with handled():
        with pytest.raises(KeyboardInterrupt), interrupted_at(9, 11):
            uninterrupted(lambda: _take(parts))
        assert 0 < len(parts) < 3
        with pytest.raises(KeyboardInterrupt), interrupted_at(9):
            uninterrupted(lambda: _take(parts))
        assert parts[-3:] == ["a", "b", "c"]


def test_what_takes_too_long_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that does not answer holds a signal for a bounded time; the timer does not go off later."""
    monkeypatch.setattr(interrupts, "LONGEST_SECONDS", 0.2)

    def hangs() -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    def is_quick() -> None:
        signal.raise_signal(signal.SIGTERM)

    with handled():
        began = time.monotonic()
        with pytest.raises(TerminatedError):
            uninterrupted(hangs)
        assert 0.1 < time.monotonic() - began < 30
        with pytest.raises(TerminatedError):
            uninterrupted(is_quick)
        time.sleep(0.4)


def test_nothing_is_left_of_a_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the timer of the first one, which would end the process later, nor one that came within a handler."""

    def meets_two() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with handled(), pytest.raises(KeyboardInterrupt):
        uninterrupted(meets_two)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

    looked = interrupts._is_within
    others = [signal.SIGTERM]

    def disturbed(frame: FrameType | None) -> bool:
        found = looked(frame)
        if others:
            signal.raise_signal(others.pop())
        return found

    monkeypatch.setattr(interrupts, "_is_within", disturbed)
    with handled():
        with pytest.raises(KeyboardInterrupt):
            uninterrupted(lambda: signal.raise_signal(signal.SIGINT))
        uninterrupted(lambda: None)
    assert interrupts._held == []


def test_an_operation_that_fails_while_a_signal_waits() -> None:
    """The signal is what is raised, and the failure is its context."""

    def fails() -> None:
        signal.raise_signal(signal.SIGINT)
        raise ValueError("no room")

    with handled(), pytest.raises(KeyboardInterrupt) as caught:
        uninterrupted(fails)
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_are_left_alone() -> None:
    """What another thread does takes no signal, and the main thread's comes at once meanwhile."""
    inside, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def waits() -> None:
        inside.set()
        ended.append(go_on.wait(60))

    with handled():
        thread = threading.Thread(target=lambda: uninterrupted(waits))
        thread.start()
        assert inside.wait(60)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        go_on.set()
        thread.join()
    assert ended == [True]


def test_a_verb_on_another_thread() -> None:
    """There, where nobody may say what signals do, a verb runs as on the main one, and signals do what they did."""
    numbers = (*interrupts.ENDING, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    ended: list[object] = []

    def runs() -> None:
        ended.append(main(["show", "nowhere.yaml"]))
        interrupts.let_die()

    thread = threading.Thread(target=runs)
    thread.start()
    thread.join()
    assert ended == [2]
    assert [signal.getsignal(number) for number in numbers] == before


def test_whoever_may_wait_asks_whether_a_signal_was_raised() -> None:
    """From a signal on, held or not, until the end; not before, and not in the next `handled`."""
    for number in interrupts.ENDING:
        with handled():
            assert not interrupts.have_come()
            with pytest.raises(KeyboardInterrupt):
                uninterrupted(partial(signal.raise_signal, number))
            assert interrupts.have_come()
        assert not interrupts.have_come()


def test_handlers_are_as_before_afterwards() -> None:
    """Within, what this process was started to ignore is still ignored; afterwards each has its handler again."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with handled():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in numbers] == before
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with handled():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before[0])


def test_no_moment_of_a_command_shows_a_traceback() -> None:
    """Ctrl-C from before the verb is known until the process has gone: its exit code, and never a traceback."""
    script = (
        "import atexit, os, signal, sys\n"
        "from ccl_dispatch.tuner.cli import main\n"
        "at = sys.argv[1]\n"
        "def now(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "if at == 'end': atexit.register(now)\n"
        "if at == 'streams':\n"
        "    import ccl_dispatch.tuner.cli as cli, contextlib\n"
        "    cli.unbreakable_streams = lambda: now() or contextlib.nullcontext()\n"
        "sys.argv = ['ccl-dispatch', '--version']\n"
        "sys.exit(main())\n"
    )
    for at, code in (("streams", 130), ("end", -signal.SIGINT)):
        done = subprocess.run([sys.executable, "-c", script, at], capture_output=True, text=True, check=False)
        assert done.returncode == code, at
        assert done.stderr == "", at
