"""The fenced blocks of the Markdown pages, with what is said about running each.

A block of language `sh`, `console` or `python` is run as it stands, in order, in the page's folder, and must end with
exit code 0. In a `console` block a line that begins with `$ ` is a command (`> ` continues it); the others are what it
prints, which is compared: a line `...` stands for any lines, and `...` within a line for any text. Where that can't be
so, the last words before the fence are a comment that says so and why:

    <!-- run: exit 1 -->            another exit code of the last command; `exit 0 or 1` allows both
    <!-- run: one run's output -->  what is quoted was printed by one run and is not compared
    <!-- not run: needs a GPU -->   not run; what it calls of ours is looked at as closely as can be without

Both words after `run:` may stand together, with a comma.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
RUN_LANGUAGES = ("sh", "console", "python")
LANGUAGES = (*RUN_LANGUAGES, "yaml", "json", "text", "{toctree}", "{include}")
NEEDS = re.compile(r"needs \w+")
_NOTE = re.compile(r"<!--\s*(not run|run):\s*(.*?)\s*-->\s*", flags=re.DOTALL)
_WORDS = re.compile(r"exit (\d+)(?: or (\d+))?|one run's output")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: the file, from the repository's root.
        line: of its fence.
        language: the word after the fence.
        text: what stands between the fences.
        not_run: the reason why it is not run; empty for one that is.
        codes: exit codes that its last command may have.
        compared: whether what it quotes must be what is printed.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    codes: tuple[int, ...] = (0,)
    compared: bool = True

    @property
    def where(self) -> str:
        """The place, as editors jump to it."""
        return f"{self.page}:{self.line}"

    def commands(self) -> list[tuple[str, list[str]]]:
        """The commands of a `sh` or `console` block, each with the lines that are quoted below it."""
        if self.language == "sh":
            return [(self.text, [])]
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.startswith("> ") and found and not found[-1][1]:
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", [])
            elif found:
                found[-1][1].append(line)
            else:
                raise ValueError(f"{self.where}: a console block begins with a command, after `$ `: {line!r}")
        return found


def pages() -> list[str]:
    """Every page that people read, from the repository's root; not those that are laid out for another place."""
    docs = ROOT / "docs"
    ours = [path for path in docs.rglob("*.md") if docs / "examples" not in path.parents]
    found = [*ROOT.glob("*.md"), *ours, *(ROOT / "tables").glob("*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in [*found, *(ROOT / "tests").rglob("*.md")])


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    Raises:
        ValueError: a fence without a language that is known, or a note that is not.
    """
    note = ""
    for token in MarkdownIt("commonmark").parse((ROOT / page).read_text(encoding="utf-8")):
        if token.type == "fence":
            yield _block(page, (token.map or [0])[0] + 1, token.info.partition(" ")[0], token.content, note)
        # A list item's opening stands between a note and the block that it is about, and closes nothing.
        if not token.type.endswith("_open"):
            note = token.content.strip() if token.type == "html_block" else ""


def spans(page: str) -> list[str]:
    """What stands in `code` within the words of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8"))
    children = (child for token in tokens for child in token.children or ())
    return [child.content for child in children if child.type == "code_inline"]


def _block(page: str, line: int, language: str, text: str, note: str) -> Block:
    where = f"{page}:{line}"
    if language not in LANGUAGES:
        raise ValueError(f"{where}: a fence with the language {language!r}, expected one of {', '.join(LANGUAGES)}")
    block = Block(page, line, language, text)
    found = _NOTE.fullmatch(note)
    if found is None:
        if note.lstrip("<!- ").startswith(("run", "not run")):
            raise ValueError(f"{where}: the note {note!r} is none: {__doc__}")
        return block
    if found[1] == "not run":
        if not NEEDS.match(found[2]):
            raise ValueError(f"{where}: {note!r} must say what it needs: `not run: needs a GPU`")
        return block._replace(not_run=found[2])
    for words in found[2].split(", "):
        meant = _WORDS.fullmatch(words)
        if meant is None:
            raise ValueError(f"{where}: the note {note!r} is none: {__doc__}")
        if meant[1]:
            block = block._replace(codes=tuple(int(code) for code in meant.groups() if code))
        else:
            block = block._replace(compared=False)
    return block


def same(quoted: list[str], printed: list[str]) -> bool:
    """Whether a page quotes what was printed; `...` stands for any lines, or any text of a line."""
    if not quoted:
        return not printed
    if quoted[0].strip() == "...":
        return any(same(quoted[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    pattern = ".*".join(re.escape(part) for part in quoted[0].rstrip().split("..."))
    return bool(printed) and re.fullmatch(pattern, printed[0].rstrip()) is not None and same(quoted[1:], printed[1:])
