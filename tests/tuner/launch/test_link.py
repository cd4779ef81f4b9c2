"""The launcher's end of the line to a nursery."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import subprocess
from functools import partial

from interrupting import interrupt

from ccl_dispatch.tuner.interrupts import handled
from ccl_dispatch.tuner.launch import wire
from ccl_dispatch.tuner.launch.link import Link, NurseryLost, ended_in_words


def test_an_ending_is_not_lost_by_an_interrupt() -> None:
    """Ctrl-C at any line while a worker's ending arrives: whoever asks then is told, and waits for nothing."""
    ours, theirs = wire.pair()
    link = Link(ours)
    pid = 0
    with handled(), theirs:
        came = True
        while came:
            pid += 1
            wire.send(theirs, {"ended": pid, "code": -9})
            came, raised = interrupt(partial(link.ending, pid, 30), moment=pid)
            assert (raised is not None) == came
            assert link.ending(pid, 0.5) == -9, pid
    assert pid > 10
    link.close()


def test_no_answer_is_taken_for_anothers() -> None:
    """Ctrl-C at any line of a question: the link is lost, or the question was answered; the next one gets its own."""
    moment, came, lost = 0, True, 0
    while came:
        moment += 1
        ours, theirs = wire.pair()
        link = Link(ours)
        with handled(), theirs:
            wire.send(theirs, {"killing": 1})
            came, raised = interrupt(partial(link.kill, 1), moment)
            assert (raised is not None) == came
            if _is_asked(theirs):
                wire.send(theirs, {"killing": 2})
                with contextlib.suppress(NurseryLost):
                    link.kill(2)
                    assert not select.select([ours], [], [], 0)[0], moment
                lost += link.lost == "was interrupted"
        link.close()
    assert moment > 15
    assert lost > 5


def test_every_ending_has_words() -> None:
    """Exit codes, signals by their names, and by numbers those that have none (of real-time signals most)."""
    words = {"exit 7": "exit code 7", "kill -KILL $$": "SIGKILL", f"kill -{signal.SIGRTMIN + 1} $$": "signal 35"}
    for command, word in words.items():
        code = subprocess.run(["sh", "-c", command], check=False).returncode
        assert ended_in_words(code).endswith(f" {word}")


def _is_asked(line: socket.socket) -> bool:
    """Whether the nursery has got a request."""
    return bool(select.select([line], [], [], 0)[0]) and wire.receive(line) is not None
