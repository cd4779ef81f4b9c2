"""Which lines of a module a process runs, without a tool to install."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Watch:
    """From `start` on, notes the lines of the module at `path` that this process runs."""

    def __init__(self, path: str) -> None:
        self._path = str(Path(path).resolve())
        self._seen: set[int] = set()

    def start(self) -> None:
        """Must come before the module is imported, or its definitions count as not run."""
        sys.settrace(self._trace)

    def stop(self) -> list[int]:
        """The lines that hold code and have not been run."""
        sys.settrace(None)
        source = Path(self._path).read_text()
        return sorted(_lines(compile(source, self._path, "exec")) - self._seen - _for_types(source))

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if str(Path(frame.f_code.co_filename).resolve()) != self._path:
            return None
        self._seen.add(frame.f_lineno)
        return self._trace


def _for_types(source: str) -> set[int]:
    """The lines that only a type checker reads: those under `if TYPE_CHECKING:`."""
    blocks = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.If)]
    return {
        line
        for block in blocks
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for part in block.body
        for line in range(part.lineno, (part.end_lineno or part.lineno) + 1)
    }


def _lines(code: CodeType) -> set[int]:
    """The lines of a code object and of those inside it."""
    found = {line for _, _, line in code.co_lines() if line}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _lines(constant)
    return found
