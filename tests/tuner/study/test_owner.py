"""What a node may be called."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from command import ccl_dispatch
from fleets import write_config
from hypothesis import given
from hypothesis import strategies as st

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.study import Node
from ccl_dispatch.tuner.study.owner import MAX_NODE_NAME

FIT = re.compile(r"[A-Za-z0-9._-]{1,64}")


@pytest.mark.parametrize("name", ["rack1/node7", "../../../up x", "a\nb", "kn\u00f6ten", "z" * 300, "z" * 65])
def test_a_name_that_does_not_fit_into_a_file_name_is_refused(name: str) -> None:
    """Folders, line breaks, other characters and lengths are refused with what is allowed, in one line."""
    with pytest.raises(UsageError, match=r"at most 64 letters .* such as rack1-node7") as caught:
        Node(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_a_name_is_taken_as_it_is_or_refused(name: str) -> None:
    """Whatever the text is: a node has that name, or there is no such node."""
    try:
        node = Node(name)
    except UsageError:
        assert not FIT.fullmatch(name)
        assert name
    else:
        assert not name or (FIT.fullmatch(name) and node.named() == name)


@pytest.mark.parametrize("host", ["gpu-17.cluster", "b\u00fcro/7\n", "h" * 200])
def test_the_name_of_a_host_is_made_to_fit(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's name is nobody's choice: what does not fit in it is replaced, and nothing else."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    name = Node().named()
    assert FIT.fullmatch(name)
    assert (name == host) == bool(FIT.fullmatch(host))
    assert len(name) == min(len(host), MAX_NODE_NAME)


def test_a_sweep_with_such_a_name_does_not_begin(tmp_path: Path) -> None:
    """`sweep --node rack1/node7` ends with exit code 2, and nothing was made."""
    config = write_config(tmp_path, 1)
    before = sorted(tmp_path.iterdir())
    done = ccl_dispatch("sweep", str(config), "--node", "rack1/node7", "--storage", "s.journal", folder=tmp_path)
    assert done.returncode == 2
    assert "'rack1/node7'" in done.stderr
    assert sorted(tmp_path.iterdir()) == before
