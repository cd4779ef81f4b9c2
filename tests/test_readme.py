"""What the README tells people to type is typed here, in a folder of its own, on a small real sweep of this machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

SMALL = """\
name: cpu
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2, 4]
dtypes: [bfloat16]
sizes: {min: 1 KiB, max: 1 MiB, per_octave: 1}
workload: [{shape: [4, 32320], dtype: bfloat16}]
measure: {min_samples: 12, min_seconds: 0}
"""


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def _ccl_dispatch(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from ccl_dispatch.tuner.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's reader has after `make tune`."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "my-cluster.yaml").write_text(SMALL, encoding="utf-8")
    swept = _ccl_dispatch(["sweep", "my-cluster.yaml"], folder)
    assert swept.returncode == 0, swept.stderr
    return folder


def test_the_commands_of_the_readme_run(workplace: Path) -> None:
    """Every ccl-dispatch line of the README ends with exit code 0, in the order in which it stands there.

    Of two independent sweeps `diff` may also say, by 1, that they decide some calls otherwise.
    """
    blocks = "\n".join(_blocks("sh")) + "\n" + "\n".join(re.findall(r"`(ccl-dispatch explain [^`]*)`", README))
    lines = [line.partition("#")[0].split() for line in blocks.splitlines() if line.startswith("ccl-dispatch ")]
    assert len(lines) >= 5
    for words in lines:
        finished = _ccl_dispatch(words[1:], workplace)
        allowed = {0, 1} if words[1] == "diff" else {0}
        assert finished.returncode in allowed, (words, finished.stderr)
        assert finished.stdout


def test_the_python_of_the_readme_runs(workplace: Path) -> None:
    """The README's Python loads the table of `make tune` and both ways to ask give the same backend of the table."""
    (code,) = _blocks("python")
    check = "print(use(258560), dispatcher.select(258560, dtype='bfloat16', mode='eager'))"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}\n{check}"],
        cwd=workplace,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    first, second = finished.stdout.split()
    assert first == second
    assert first in {"gloo", "shm"}


def test_the_make_targets_of_the_readme_exist() -> None:
    """Each `make` command that the README names is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for block in _blocks("sh") for name in re.findall(r"^make ([a-z]+)", block, flags=re.MULTILINE)}
    assert named == {"tune", "test"}
    assert named <= targets


def test_local_links_lead_somewhere() -> None:
    """Every file that the README links to or shows is there."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
