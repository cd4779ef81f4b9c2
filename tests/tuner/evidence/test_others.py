"""Whose work the processors do."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ccl_dispatch.tuner.evidence.others import Usage, others_share

# Ends by itself, should the test not get to it.
_SPIN = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


def test_what_a_child_uses_is_ours() -> None:
    """The seconds of a spinning child count as this process's own, and as everybody's."""
    with subprocess.Popen([sys.executable, "-c", _SPIN]) as child:
        before, began = Usage.now(), time.monotonic()
        assert before is not None
        after = before
        # On a busy machine the child gets little of a second; it spins for longer than this waits.
        while after.ours - before.ours < 0.2 and time.monotonic() - began < 15:
            time.sleep(0.5)
            after = Usage.now() or after
        child.kill()
    # The child and this process could use a core and a bit.
    assert 0.2 <= after.ours - before.ours < 1.5 * (time.monotonic() - began)
    assert after.everybody - before.everybody >= 0.2


def test_what_is_unknown_is_not_guessed() -> None:
    """Without a reading, or without time between two, there is no share."""
    now = Usage.now()
    assert others_share(None, now) is None
    assert others_share(now, None) is None
    assert others_share(now, now) is None


def test_a_share_is_of_all_processors() -> None:
    """Half a core of others' work in a second is half of one core's share, whatever we did meanwhile."""
    cores = os.cpu_count() or 1
    share = others_share(Usage(10.0, 4.0, 0.0), Usage(11.5, 5.0, 1.0))
    assert share is not None
    assert abs(share - 0.5 / cores) < 1e-9
    assert others_share(Usage(10.0, 4.0, 0.0), Usage(10.5, 5.0, 1.0)) == 0.0
