"""Where results may go: whether they can be written is asked before anything is done for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ccl_dispatch.runtime.errors import UsageError
from ccl_dispatch.tuner.files import try_to_write
from ccl_dispatch.tuner.kinds import SAMPLES, what_lies_at


def make_folder(folder: Path, option: str) -> None:
    """Make `folder` where it is not there. One level: more of them are a slip more often than a wish.

    Args:
        option: which option it comes from, for messages.

    Raises:
        UsageError: it can't be made, or there is nothing yet that it could be made in.
    """
    if folder.is_dir():
        return
    if os.path.exists(folder):
        raise UsageError(f"{folder} is a file, expected a folder. Give another {option}")
    if not os.path.exists(folder.parent):
        raise UsageError(
            f"the folder {folder} is not there, and neither is {folder.parent}; the last folder of a path is made, not "
            f"more. Make it (mkdir -p {folder}), or give another {option}"
        )
    try:
        folder.mkdir(exist_ok=True)
    except OSError as problem:
        raise UsageError(f"the folder {folder} can't be made: {problem.strerror}. Give another {option}") from problem


def check_writable(path: Path, option: str, kind: str = "") -> None:
    """Make the folder of a file that will be written, and see that files can be made in it.

    Args:
        kind: what is written, `TABLE` or `MEASUREMENTS`, which may replace its like; nothing else is written over
            these, and nothing at all over configs.

    Raises:
        UsageError: the file could not be written there; nothing was begun.
    """
    if str(path) == "-":
        raise UsageError(
            f"{option} - would be a file of that name. For standard output give {option} /dev/stdout, for a file of "
            f"that name its whole path"
        )
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Give {option} the name of a file")
    if path.exists() and not path.is_file():
        return  # a pipe or a terminal, which is written to and not replaced
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    there = what_lies_at(str(target))
    if there in SAMPLES:
        raise UsageError(
            f"{path} can't be written over: it is {there}, whose samples would be lost. Give another {option}"
        )
    if there and there != kind:
        raise UsageError(f"{path} is {there}, which would be lost. Give another {option}, or move it away")
    make_folder(target.parent, option)
    try:
        try_to_write(str(target))
    except OSError as problem:
        raise UsageError(
            f"the folder {target.parent} can't be written: {problem.strerror}. Give another {option}"
        ) from problem


def closed_log(folder: Path) -> Path | None:
    """A log there that can't be appended to, if any: in a folder that takes files those of another user may not."""
    return next((log for log in folder.glob("*.log") if not os.access(log, os.W_OK)), None)


def check_appendable(folder: Path, option: str) -> None:
    """See that workers can append to the logs that are in the folder already.

    Raises:
        UsageError: to one they can't.
    """
    if (log := closed_log(folder)) is not None:
        raise UsageError(
            f"the log {log}, which was there before, can't be appended to: look whose it is. Remove it, or give "
            f"another {option}"
        )


def check_apart(files: Mapping[str, Path | None]) -> None:
    """See that no file is two things at once.

    Args:
        files: by what they are called in messages; None for one that is no file, or not wanted.

    Raises:
        UsageError: two are the same file.
    """
    places: dict[str, str] = {}
    for name, path in files.items():
        if path is None or (path.exists() and not path.is_file()):
            continue
        other = places.setdefault(os.path.realpath(path), name)
        if other != name:
            raise UsageError(f"{other} and {name} are the same file, {path}. Give each a file of its own")


@contextlib.contextmanager
def no_empty_folders(*folders: Path) -> Iterator[None]:
    """Those of `folders`, and those above them, that are made within it and still empty when it fails are removed."""
    made = {place for folder in folders for place in (folder, *folder.parents) if not os.path.exists(place)}
    try:
        yield
    except BaseException:
        for folder in sorted(made, key=lambda place: len(place.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
