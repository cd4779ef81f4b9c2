"""The architecture page and the code name the same modules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import optuna

ROOT = Path(__file__).parent.parent
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


def test_the_sampler_runs_on_its_own() -> None:
    """The example of docs/search.md runs as it stands and ends by itself, within its budget of 60 executions."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "search.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names: dict[str, Any] = {}
    exec(code.group(1), names)  # noqa: S102 - what a reader would paste
    trials = names["study"].get_trials()
    assert len(trials) >= 5
    assert all(trial.state.name == "COMPLETE" for trial in trials)
    assert sum(2 + 2 * trial.params["repeats"] for trial in trials) <= 60
