"""What the tests of verifications share."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_curves import write_config
from verifying import swept, verify

from ccl_dispatch.tuner.verify.keep import keep_reference


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    """A replayed table with its reference, and the configs of what may have become of its machine."""
    folder = tmp_path_factory.mktemp("made")
    configs = {
        "same": write_config(folder, "same"),
        "slower": write_config(folder, "slower", slower=1.15),
        "worse": write_config(folder, "worse", slower=2.0),
        "moved": write_config(folder, "moved", crossover=8192),
    }
    table = swept(folder, configs["same"])
    verified = verify(table, configs["same"], seed=99, seen=0.07)
    assert verified.verification.verdict == "still right"
    keep_reference(verified, None)
    return table, configs
