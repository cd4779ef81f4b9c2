"""Strict YAML: plain data only, every value with its place in the file.

The tree is built from libyaml's events, not with a YAML loader: depth and size are bounded before anything recurses,
anchors, aliases, tags and duplicate keys are refused, and scalars follow the YAML 1.2 core schema (`off` is a word and
`010` is ten), so that a table means the same to every reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import yaml

from ccl_dispatch.runtime.errors import DocumentError

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 16
# Every value has its whole path, so that a long key above a long list would take the square of the file's size.
MAX_PATH = 256

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# No regular expressions here: compiling two of them costs a tenth of the whole import.
_NUMBER_STARTS = frozenset("0123456789+-.")
_NUMBER_CHARS = frozenset("0123456789+-.eE")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_MAX_DIGITS = 30


ABSENT = object()
# Of a NamedTuple, without the function that checks how it is called: a large table has ten thousand values.
_new = tuple.__new__


class Node(NamedTuple):
    """A value of the document: `value` is a dict of Nodes, a list of Nodes, or a scalar.

    Below a node that came without places, dicts and lists have plain values; `Reader` gives those their node's place.
    """

    value: Any
    line: int
    key: str
    source: str

    def plain(self) -> Any:
        """The value without places: dicts, lists and scalars."""
        value = self.value
        if type(value) is dict:
            return {key: child.plain() if type(child) is Node else child for key, child in value.items()}
        if type(value) is list:
            return [child.plain() if type(child) is Node else child for child in value]
        return value


def parse(text: str, source: str, error: type[DocumentError] = DocumentError) -> Node:
    """The tree of one YAML document.

    Args:
        text: the document.
        source: its file name, for messages.
        error: the class to raise.

    Raises:
        DocumentError: (as `error`) not YAML, too large, too deep, or with anchors, aliases, tags or duplicate keys.
    """
    if len(text) > MAX_BYTES:
        raise error(f"{len(text)} characters, more than the {MAX_BYTES} that are read", source=source, line=1)
    try:
        return _build(text, source, error)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or getattr(problem, "reason", None) or str(problem)
        # What is no character of YAML has a position in bytes instead of a mark.
        position = getattr(problem, "position", None) or 0
        line = mark.line if mark else text.encode("utf-8", "replace")[:position].count(b"\n")
        raise error(f"not YAML: {what}", source=source, line=line + 1) from None
    except UnicodeEncodeError as problem:
        line = text.count("\n", 0, problem.start) + 1
        raise error("half a character (a lone surrogate)", source=source, line=line, fix="Save it as UTF-8") from None
    except RecursionError:
        raise error("nested too deep", source=source, line=1) from None


def _build(text: str, source: str, error: type[DocumentError]) -> Node:
    # One frame per open collection: the container's Node and, for a mapping, the key that waits for its value.
    stack: list[tuple[Node, list[tuple[str, int]]]] = []
    root: Node | None = None

    def place(value: Any, line: int) -> Node:
        nonlocal root
        if not stack:
            if root is not None:
                raise error("more than one document in the file", source=source, line=line)
            root = Node(value, line, "", source)
            return root
        parent, pending = stack[-1]
        if isinstance(parent.value, list):
            node = Node(value, line, f"{parent.key}[{len(parent.value)}]", source)
            parent.value.append(node)
            return node
        if not pending:
            if not isinstance(value, str):
                # `{shape: 4,32320}`: YAML takes the comma for the end of the value.
                fix = "" if not parent.value else "A list of values stands in brackets: [4, 8]"
                raise error(f"a key must be a word, found {value!r}", source=source, line=line, key=parent.key, fix=fix)
            path = f"{parent.key}.{value}" if parent.key else value
            if len(path) > MAX_PATH:
                fix = f"A key with those that it stands under has at most {MAX_PATH}"
                raise error(f"a key of {len(path)} characters", source=source, line=line, key=path[:60], fix=fix)
            if value in parent.value:
                raise error("key given twice", source=source, line=line, key=path, fix="Keep one of the two")
            pending.append((value, line))
            return parent
        # The key's line, not the value's: a mapping or list begins a line later than the key that a message is about.
        name, line = pending.pop()
        node = Node(value, line, f"{parent.key}.{name}" if parent.key else name, source)
        parent.value[name] = node
        return node

    event: Any  # which fields it has depends on its kind
    for event in yaml.parse(text, Loader=_LOADER):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            line = event.start_mark.line + 1
            if event.anchor or event.tag:
                raise error("anchors and tags are not allowed", source=source, line=line, fix="Write the value out")
            place(scalar(event.value, source, line, error) if event.implicit[0] else event.value, line)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            line = event.start_mark.line + 1
            if event.anchor or event.tag:
                raise error("anchors and tags are not allowed", source=source, line=line, fix="Write the value out")
            if len(stack) >= MAX_DEPTH:
                raise error(f"nested deeper than {MAX_DEPTH} levels", source=source, line=line)
            stack.append((place({} if kind is yaml.MappingStartEvent else [], line), []))
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            stack.pop()
        elif kind is yaml.AliasEvent:
            line = event.start_mark.line + 1
            raise error("aliases are not allowed", source=source, line=line, fix="Write the value out")
    if root is None:
        raise error("the file is empty", source=source, line=1)
    return root


def scalar(text: str, source: str, line: int, error: type[DocumentError]) -> Any:
    """The value of a plain scalar.

    Raises:
        DocumentError: (as `error`) a number that can't be kept.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS or not _NUMBER_CHARS.issuperset(text):
        return text
    try:
        digits = text[1:] if text[0] in "+-" else text
        if digits.isdecimal():
            if len(text) > _MAX_DIGITS:
                raise error(f"a number of {len(text)} digits", source=source, line=line, fix="Write a smaller number")
            return int(text)
        number = float(text)
    except ValueError:
        return text
    if number - number != 0:
        raise error(f"a number too large to keep: {text[:40]}", source=source, line=line)
    return number


class Reader:
    """A mapping of the document, read key by key; an unknown key is an error that names the nearest valid one."""

    def __init__(self, node: Node, allowed: Iterable[str], error: type[DocumentError]) -> None:
        self.error = error
        self.node = node
        if not isinstance(node.value, dict):
            raise self.fail(node, f"found {describe(node)}, expected a mapping", f"Give the keys {', '.join(allowed)}")
        self._values: dict[str, Any] = node.value
        if type(allowed) is not dict:
            allowed = dict.fromkeys(allowed)
        if not self._values.keys() <= allowed.keys():
            name = next(name for name in self._values if name not in allowed)
            raise self.fail(self.need(name), "unknown key", nearest(name, allowed))

    def fail(self, node: Node, problem: str, fix: str = "") -> DocumentError:
        """The error for `node`, to be raised by the caller."""
        return self.error(problem, source=node.source, line=node.line, key=node.key, fix=fix)

    def get(self, key: str) -> Node | None:
        """The value under `key`, or None when the key is absent."""
        child = self._values.get(key, ABSENT)
        if type(child) is Node:
            return child
        return None if child is ABSENT else _new(Node, (child, *self.node[1:]))

    def need(self, key: str) -> Node:
        """The value under `key`; an absent key is an error."""
        child = self._values.get(key, ABSENT)
        if type(child) is Node:
            return child
        if child is ABSENT:
            path = f"{self.node.key}.{key}" if self.node.key else key
            raise self.error("missing", source=self.node.source, line=self.node.line, key=path, fix="Add it")
        return _new(Node, (child, *self.node[1:]))

    def text(self, node: Node) -> str:
        """A non-empty string."""
        if not isinstance(node.value, str) or not node.value:
            raise self.fail(node, f"found {describe(node)}, expected text")
        return node.value

    def choice(self, node: Node, choices: Iterable[str]) -> str:
        """One of `choices`."""
        value = node.value
        options = choices if isinstance(choices, (tuple, dict)) else tuple(choices)
        if not isinstance(value, str) or value not in options:
            problem = f"found {describe(node)}, expected one of {', '.join(options)}"
            raise self.fail(node, problem, did_you_mean(str(value), options))
        return value

    def integer(self, node: Node, minimum: int | None = None, maximum: int | None = None) -> int:
        """A whole number within the bounds, both included."""
        value = node.value
        if type(value) is int and (minimum is None or value >= minimum) and (maximum is None or value <= maximum):
            return value
        if not isinstance(node.value, int) or isinstance(node.value, bool):
            raise self.fail(node, f"found {describe(node)}, expected a whole number")
        self._bounds(node, node.value, minimum, maximum)
        return node.value

    # The ways for tables, which have thousands of values: a plain one that is as it should be is taken at once, and of
    # any other the method that takes a Node says what is wrong with it.

    def value_at(self, key: str) -> Any:
        """The value under `key`, a scalar or what its Node has; `ABSENT` when the key is absent."""
        value = self._values.get(key, ABSENT)
        return value.value if type(value) is Node else value

    def integer_at(self, key: str, minimum: int, maximum: int | None = None) -> int:
        """`integer` of what must be under `key`."""
        value = self.value_at(key)
        if type(value) is int and value >= minimum and (maximum is None or value <= maximum):
            return value
        return self.integer(self.need(key), minimum, maximum)

    def choice_at(self, key: str, choices: tuple[str, ...] | dict[str, Any]) -> str:
        """`choice` of what must be under `key`."""
        value = self.value_at(key)
        if type(value) is str and value in choices:
            return value
        return self.choice(self.need(key), choices)

    def number_at(self, key: str, minimum: float | None = None) -> float:
        """`number` of what must be under `key`."""
        value = self.value_at(key)
        if type(value) is float and value - value == 0 and (minimum is None or value >= minimum):
            return value
        return self.number(self.need(key), minimum)

    def number(self, node: Node, minimum: float | None = None, maximum: float | None = None) -> float:
        """A finite number within the bounds, both included."""
        if not isinstance(node.value, (int, float)) or isinstance(node.value, bool):
            raise self.fail(node, f"found {describe(node)}, expected a number")
        if node.value - node.value != 0:
            raise self.fail(node, f"found {node.value}, expected a finite number")
        self._bounds(node, node.value, minimum, maximum)
        return float(node.value)

    def items(self, node: Node) -> list[Node]:
        """A list, as its nodes."""
        if not isinstance(node.value, list):
            # `modes: eager`, where one value is as easily written as several.
            fix = f"Write [{node.value}]" if type(node.value) in (str, int) and len(describe(node)) < 60 else ""
            raise self.fail(node, f"found {describe(node)}, expected a list", fix)
        place = node[1:]
        return [child if type(child) is Node else _new(Node, (child, *place)) for child in node.value]

    def items_at(self, key: str) -> list[Node]:
        """`items` of what must be under `key`; most lists of a table are empty."""
        return [] if self.value_at(key) == [] else self.items(self.need(key))

    def _bounds(self, node: Node, value: float, minimum: float | None, maximum: float | None) -> None:
        if minimum is not None and value < minimum:
            raise self.fail(node, f"found {value}, expected at least {minimum}")
        if maximum is not None and value > maximum:
            raise self.fail(node, f"found {value}, expected at most {maximum}")


def check_schema(root: Node, expected: str, error: type[DocumentError], fix: str) -> None:
    """Refuse a file of another schema, with `fix`.

    Asked before any other key: one of a newer schema must be called that, not a file with unknown keys.
    """
    found = root.value.get("schema") if isinstance(root.value, dict) else None
    if found is not None and found.value != expected:
        raise error(
            f"found {describe(found)}, expected {expected}", source=found.source, line=found.line, key="schema", fix=fix
        )


def describe(node: Node) -> str:
    """What stands at `node`, in words and bounded in length."""
    if isinstance(node.value, dict):
        return "a mapping"
    if isinstance(node.value, list):
        return "a list"
    if node.value is None:
        return "nothing"
    text = repr(node.value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, options: Iterable[str]) -> str:
    """What to write instead of a mistyped word, or the list of what there is."""
    names = tuple(options)
    return did_you_mean(word, names) or (f"Valid here: {', '.join(names)}" if names else "")


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`Did you mean ...?` with the option that a mistyped word is closest to; empty when it is close to none."""
    import difflib  # only on the way to an error: it costs 7 ms to import

    # One that differs in case alone is meant, however much another one may look like it to difflib.
    names = {name.lower(): name for name in reversed(tuple(options))}
    close = difflib.get_close_matches(word[:80].lower(), tuple(names), n=1, cutoff=0.5)
    return f"Did you mean {names[close[0]]!r}?" if close else ""
