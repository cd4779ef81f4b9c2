"""What a storage's URL says: a file, a database, or a slip of the pen."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.study.storage import check_shared, is_new, journal_path, lies_on_one_machine, storage_file


@pytest.mark.parametrize(
    ("url", "journal", "file"),
    [
        ("a/study.journal", "a/study.journal", "a/study.journal"),
        ("journal://a/study.journal", "a/study.journal", "a/study.journal"),
        ("sqlite:///a/study.db", None, "a/study.db"),
        ("postgresql://user@host/name", None, None),
        ("grpc://host:13000", None, None),
        # A colon alone makes no URL.
        ("10:30.journal", "10:30.journal", "10:30.journal"),
        ("./sqlite:x", "./sqlite:x", "./sqlite:x"),
        ("postgresql", "postgresql", "postgresql"),
    ],
)
def test_a_url_says_where_a_study_lies(url: str, journal: str | None, file: str | None, tmp_path: Path) -> None:
    """Whether in a file, which other machines don't reach, and whether there is one yet."""
    assert journal_path(url) == (None if journal is None else Path(journal))
    assert storage_file(url) == (None if file is None else Path(file))
    assert is_new(url) == lies_on_one_machine(url) == (file is not None)
    if file is None:
        check_shared(url, 2)
    else:
        with pytest.raises(UsageError, match="2 nodes can't share the storage"):
            check_shared(url, 2)
        there = tmp_path / "there"
        there.touch()
        assert not is_new(f"sqlite:///{there}" if journal is None else str(there))


@pytest.mark.parametrize(
    ("url", "meant"),
    [("sqlite:study.db", "sqlite:///study.db"), ("postgresql:/user:secret@host/n", "postgresql://user:***@host/n")],
)
def test_a_url_with_too_few_slashes_is_no_file_of_that_name(url: str, meant: str) -> None:
    """What was meant is told, without a password."""
    with pytest.raises(UsageError) as caught:
        journal_path(url)
    assert meant in str(caught.value)
    assert "secret" not in str(caught.value)
