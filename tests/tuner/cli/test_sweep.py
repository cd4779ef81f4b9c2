"""What a sweep prints at its end."""

from __future__ import annotations

import re
from pathlib import Path

from command import ccl_dispatch
from fleets import write_config


def test_what_all_runs_took_is_not_mixed_up_with_this_run(tmp_path: Path) -> None:
    """Of a study that was complete the executions and seconds in collectives are of the first run, its time is not."""
    write_config(tmp_path, 2)
    first, second = (ccl_dispatch("sweep", "fleet.yaml", "--quiet", folder=tmp_path).stdout for _ in range(2))
    pattern = r"executions: (.*) s in collectives, over all runs of the study; this run took [\d.]+ s and ended"
    assert re.findall(pattern, first) == re.findall(pattern, second) != []
    assert "nothing was measured now" in second
