"""A config that asks for what its backends can't do is refused before anything starts, in a dry run as well."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from command import ccl_dispatch

from ccl_dispatch.runtime.errors import ConfigError
from ccl_dispatch.tuner.backends import BACKENDS
from ccl_dispatch.tuner.backends.shm import ShmBackend
from ccl_dispatch.tuner.config.abilities import check_abilities
from ccl_dispatch.tuner.config.parsing import parse_config

CONFIG = """\
name: wishes
collective: all_gather
baseline: gloo
candidates: [shm]
world_sizes: [2]
dtypes: [bfloat16]
modes: [eager]
sizes: {min: 64 B, max: 1 KiB}
"""


class EagerOnly(ShmBackend):
    """A backend whose calls can't be captured."""

    name = "eager_only"
    modes: ClassVar[tuple[str, ...]] = ("eager",)


@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "sweep"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("modes: [eager]", "modes: [eager, graph]"),
            [
                "c.yaml:7: modes: found graph, which gloo and shm can't do (gloo and shm do eager)",
                "host memory has no graphs",
                "Take graph out",
                "host_graphs: true",
            ],
        ),
        (
            ("all_gather", "all_reduce"),
            [
                "c.yaml:2: collective: found all_reduce, which gloo and shm can't do (gloo and shm do all_gather)",
                "Set `collective` to all_gather",
            ],
        ),
        (
            ("[bfloat16]", "[bfloat16, int16]"),
            ["c.yaml:6: dtypes: found int16, which the baseline gloo can't take (it takes float64,", "Take int16 out"],
        ),
        (
            (
                "baseline: gloo\ncandidates: [shm]",
                "baseline: shm\ncandidates: [gloo]\nworkload: [{shape: [9], dtype: bfloat16}]",
            ),
            [
                "c.yaml:5: workload: the baseline shm can't take shape [9], 18 B in all_gather/eager/first",
                "18 bytes are not a multiple of 16",
            ],
        ),
    ],
    ids=["mode", "collective", "dtype", "a shape that the baseline refuses"],
)
def test_refused_before_anything_starts(tmp_path: Path, change: tuple[str, str], words: list[str], dry: bool) -> None:
    """Exit code 2, which ends a Kubernetes Job at once, with place, finding and remedy; no study is left."""
    (tmp_path / "c.yaml").write_text(CONFIG.replace(*change))
    done = ccl_dispatch("sweep", "c.yaml", *(("--dry-run",) if dry else ()), folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    for expected in words:
        assert expected in done.stderr
    assert "the same command continues" not in done.stderr
    assert not list(tmp_path.rglob("*.journal"))


def test_graphs_that_are_made_up_on_the_host_are_taken(tmp_path: Path) -> None:
    """What a config asks for to try captured modes out is no mistake."""
    (tmp_path / "c.yaml").write_text(CONFIG.replace("[eager]", "[graph]") + "measure: {host_graphs: true}\n")
    done = ccl_dispatch("sweep", "c.yaml", "--dry-run", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_mode_that_only_some_candidates_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no mistake while another candidate has it; without one, or for a candidate with none at all, it is."""
    monkeypatch.setitem(BACKENDS, "eager_only", f"{__name__}:EagerOnly")
    monkeypatch.setattr("ccl_dispatch.tuner.config.abilities.backend_class", _class)
    host_graphs = CONFIG + "measure: {host_graphs: true}\n"

    def check(candidates: str, modes: str) -> None:
        text = host_graphs.replace("[shm]", candidates).replace("[eager]", modes)
        check_abilities(parse_config(text, "c.yaml"), "cpu")

    check("[shm, eager_only]", "[eager, graph]")
    with pytest.raises(ConfigError, match=r"c.yaml:7: modes: found graph, which eager_only can't do \(eager_only does"):
        check("[eager_only]", "[eager, graph]")
    with pytest.raises(ConfigError, match=r"c.yaml:4: candidates: eager_only runs in none of the `modes` graph"):
        check("[shm, eager_only]", "[graph]")


def _class(name: str) -> type:
    from ccl_dispatch.tuner.backends import backend_class

    return EagerOnly if name == "eager_only" else backend_class(name)
