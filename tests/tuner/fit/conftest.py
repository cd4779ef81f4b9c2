"""The simulation bench as a fixture."""

from __future__ import annotations

import pytest
from curve_bench import Bench


@pytest.fixture
def bench() -> Bench:
    """The simulation bench."""
    return Bench()
