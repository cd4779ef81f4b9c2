"""The architecture page and the code name the same modules."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = set(re.findall(r"`((?:runtime|tuner)/[a-z_/]+\.py)`", (ROOT / "docs" / "architecture.md").read_text()))


def test_every_module_that_the_page_names_is_there() -> None:
    """No module of docs/architecture.md is missing from the code."""
    assert sorted(name for name in NAMED if not (ROOT / name).is_file()) == []


def test_every_module_is_on_the_page() -> None:
    """Each module of the runtime and the tuner has its place in docs/architecture.md."""
    modules = {
        str(path.relative_to(ROOT))
        for folder in ("runtime", "tuner")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert sorted(modules - NAMED) == []
