"""Does a table fit a machine: what differs forbids, what is unknown does not, and the machine is described honestly."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccl_dispatch.runtime.platform import match
from ccl_dispatch.runtime.probe import settings_in_force, this_platform
from ccl_dispatch.runtime.table import Platform

HERE = Platform("cuda", "gfx942", "AMD Instinct MI300X", 8, "XGMI", {"torch": "2.13", "rccl": "2.27"}, {"NCCL_X": "1"})


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"device_type": "cpu"}, "device_type"),
        ({"architecture": "gfx950"}, "architecture"),
        ({"device": "AMD Instinct MI325X"}, "device"),
        ({"device_count": 4}, "device_count"),
        ({"link": "PCIe"}, "link"),
        ({"versions": {"torch": "2.13", "rccl": "2.28"}}, "versions.rccl"),
        ({"settings": {"NCCL_X": "2"}}, "settings.NCCL_X"),
        ({"settings": {}}, "settings.NCCL_X"),
        ({"settings": {"NCCL_X": "1", "NCCL_Y": ""}}, "settings.NCCL_Y"),
    ],
)
def test_one_known_difference_forbids_the_table(changed: dict[str, Any], key: str) -> None:
    """A value that both know and that differs, and a setting that only one has, is found under its key."""
    for table, here in ((HERE, HERE._replace(**changed)), (HERE._replace(**changed), HERE)):
        verdict = match(table, here)
        assert not verdict.fits
        assert [finding.key for finding in verdict.differs] == [key]
        assert verdict.lines()[0].startswith(f"differs: {key}: the table has ")


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"architecture": ""}, "architecture"),
        ({"device_count": 0}, "device_count"),
        ({"link": ""}, "link"),
        ({"versions": {"torch": "2.13"}}, "versions.rccl"),
        ({"versions": {"torch": "2.13", "rccl": ""}}, "versions.rccl"),
    ],
)
def test_what_one_side_does_not_know_is_said_and_forbids_nothing(changed: dict[str, Any], key: str) -> None:
    """An unknown value is neither equal nor different."""
    for table, here in ((HERE, HERE._replace(**changed)), (HERE._replace(**changed), HERE)):
        verdict = match(table, here)
        assert verdict.fits
        assert [finding.key for finding in verdict.unknown] == [key]


@pytest.mark.parametrize("provenance", ["replayed", "imported"])
def test_only_measured_tables_fit_any_machine(provenance: str) -> None:
    """A table that was not measured fits nowhere, however equal the platform is."""
    assert match(HERE, HERE).fits
    verdict = match(HERE, HERE, provenance=provenance)
    assert [finding.key for finding in verdict.differs] == ["provenance"]
    assert verdict.lines()[0] == f"differs: provenance: the table's figures are {provenance}, expected measured ones"


_WORDS = st.sampled_from(["", "a", "b"])
_PLATFORMS = st.builds(
    Platform,
    _WORDS,
    _WORDS,
    _WORDS,
    st.integers(0, 2),
    _WORDS,
    st.dictionaries(_WORDS, _WORDS),
    st.dictionaries(_WORDS, _WORDS),
)


@settings(max_examples=200, deadline=None)
@given(_PLATFORMS, _PLATFORMS)
def test_every_key_of_both_sides_has_one_verdict_and_the_sides_do_not_matter(first: Platform, second: Platform) -> None:
    """No key is lost or judged twice, a platform always fits itself, and swapping the sides changes no verdict."""
    verdict, swapped = match(first, second), match(second, first)
    keys = [finding.key for group in verdict for finding in group]
    maps = [*(f"versions.{key}" for key in {*first.versions, *second.versions})]
    maps += [f"settings.{key}" for key in {*first.settings, *second.settings}]
    expected = ["provenance", "device_type", "architecture", "device", "device_count", "link", *maps]
    assert sorted(keys) == sorted(expected)
    # In one order on every rank and in every process, since ranks compare what they say by its words.
    in_order = [*expected[:6], *sorted(maps, key=lambda key: (key.startswith("settings."), key))]
    assert all(keys == sorted(keys, key=in_order.index) for keys in ([f.key for f in group] for group in verdict))
    assert [[f.key for f in group] for group in verdict] == [[f.key for f in group] for group in swapped]
    assert match(first, first).fits


def test_a_verdict_is_told_with_what_matters_first() -> None:
    """What differs, then what is unknown, then what agrees with its value."""
    there = HERE._replace(device_count=4, link="", architecture="", settings={}, versions={"torch": "2.13"})
    assert match(HERE._replace(link=""), there).lines() == [
        "differs: device_count: the table has 8, this machine has 4",
        "differs: settings.NCCL_X: the table has '1', this machine has not set",
        "unknown: architecture: the table has gfx942, this machine has unknown",
        "unknown: link: unknown",
        "unknown: versions.rccl: the table has 2.27, this machine has unknown",
        "same:    provenance: measured",
        "same:    device_type: cuda",
        "same:    device: AMD Instinct MI300X",
        "same:    versions.torch: 2.13",
    ]


def test_settings_are_those_that_change_what_runs() -> None:
    """NCCL's, RCCL's, AITER's, HSA's and SGLang's AITER variables count; not those of logging, nor those that AITER
    sets itself when it is imported, nor anything else.
    """
    counted = ["AITER_X", "HSA_X", "NCCL_ALGO", "RCCL_X", "SGLANG_USE_AITER_AG"]
    logging = ["NCCL_DEBUG", "NCCL_DEBUG_FILE", "NCCL_DEBUG_SUBSYS", "RCCL_DEBUG", "AITER_LOG_LEVEL", "AITER_LOG_MORE"]
    free = [*logging, "AITER_ASM_DIR", "AITER_GPU_ARCHS", "SGLANG_X", "PATH", "MY_NCCL_ALGO"]
    assert list(settings_in_force(dict.fromkeys([*free, *counted], "1"))) == counted


def test_this_machine_fits_itself_and_names_its_cores() -> None:
    """The probe gives the same twice, with the cores that this process may use and torch's own version."""
    import torch

    here = this_platform("cpu", {"NCCL_ALGO": "Ring"})
    assert match(here, this_platform("cpu", {"NCCL_ALGO": "Ring"})).fits
    assert here.device_count == len(os.sched_getaffinity(0))
    assert here.architecture == os.uname().machine
    assert here.versions["torch"] == str(torch.__version__)
    assert here.settings == {"NCCL_ALGO": "Ring"}


def test_torch_version_is_the_same_without_importing_torch() -> None:
    """A process that has not imported torch reads the version that the import would give, and still has not."""
    code = (
        "import sys\n"
        "from ccl_dispatch.runtime.probe import this_platform\n"
        "before = this_platform('cpu').versions['torch']\n"
        "assert 'torch' not in sys.modules\n"
        "import torch\n"
        "print(before == torch.__version__ == this_platform('cpu').versions['torch'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr


def test_a_machine_without_a_gpu_says_unknown() -> None:
    """What can't be asked is left open, and nothing is raised."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    here = this_platform("cuda", {})
    assert (here.architecture, here.device, here.device_count) == ("", "", 0)
    assert this_platform("xpu", {}).device == ""
