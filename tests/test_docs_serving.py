"""What docs/serving.md shows is right: its manifest, its Python, its commands' names, and its example."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from ccl_dispatch.runtime import find, switch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_manifest_mounts_the_tables_where_they_are_looked_for() -> None:
    """The ConfigMap and the Deployment are YAML, name each other, and mount the folder of the search path."""
    (text,) = _blocks("yaml")
    configmap, deployment = yaml.safe_load_all(text)
    assert [document["kind"] for document in (configmap, deployment)] == ["ConfigMap", "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"]["name"] == configmap["metadata"]["name"]
    (mount,) = pod["containers"][0]["volumeMounts"]
    assert mount["mountPath"] == find.SYSTEM_FOLDER
    assert mount["name"] == pod["volumes"][0]["name"]
    assert all(name.endswith(".yaml") for name in configmap["data"])
    assert deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_the_python_compiles_and_imports_what_there_is() -> None:
    """Every name that the page imports is offered by the runtime."""
    for code in _blocks("python"):
        compile(code, "docs/serving.md", "exec")
        lines = [line for line in code.splitlines() if line.startswith("from ")]
        subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_the_switches_are_those_of_the_code() -> None:
    """The table of states and the variables beside it are what `runtime/switch.py` reads."""
    section = PAGE.partition("One switch")[2].partition("\n## ")[0]
    states = re.findall(r"^\| `([a-z]+)`", section, flags=re.MULTILINE)
    assert sorted(states) == sorted(switch.STATES)
    named = set(re.findall(r"CCL_DISPATCH(?:_[A-Z]+)?", PAGE))
    assert named == {
        switch.VARIABLE,
        switch.EDITED_VARIABLE,
        switch.TIMEOUT_VARIABLE,
        switch.RECORD_VARIABLE,
        find.VARIABLE,
    }


def test_no_figure_was_forgotten() -> None:
    """No place that waits for a measured figure is left."""
    assert re.findall(r"\b[A-Z]+_(?:RESULT|MACHINE)\b", PAGE) == []


def test_record_tune_ship_runs() -> None:
    """The example records, tunes and installs with real processes and right outputs; its times are not judged."""
    script = str(ROOT / "benchmarks" / "record_tune_ship.py")
    words = ["--passes", "4", "--calls", "20", "--seconds", "4"]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=200, check=False)
    assert "table / always candidate" in done.stdout, done.stderr
    assert "recorded: 2 files" in done.stdout
