"""Parts of a JSON Schema with words for readers, and the same as a section of a page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

# What is as large bounds nothing that anybody would write.
_NO_BOUND = (1 << 31) - 1

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def mapping(about: str, keys: Mapping[str, Json], optional: tuple[str, ...] = ()) -> Json:
    """A mapping of exactly these keys, all of which must be there but the `optional` ones."""
    return {
        "type": "object",
        "description": about,
        "properties": dict(keys),
        "required": [key for key in keys if key not in optional],
        "additionalProperties": False,
    }


def text(about: str) -> Json:
    """A text that is not empty."""
    return {"type": "string", "minLength": 1, "description": about}


def one_of(words: tuple[str, ...] | Mapping[str, int], about: str) -> Json:
    """One of these words."""
    return {"enum": [*words], "description": about}


def count(about: str, minimum: int = 0, maximum: int | None = None) -> Json:
    """A whole number."""
    bound = {} if maximum is None else {"maximum": maximum}
    return {"type": "integer", "minimum": minimum, **bound, "description": about}


def number(about: str, **bounds: float) -> Json:
    """A number, with JSON Schema's own words for its bounds."""
    return {"type": "number", **bounds, "description": about}


def part(name: str, about: str) -> Json:
    """What the schema has under `name` among its parts."""
    return {"$ref": f"#/$defs/{name}", "description": about}


def several(name: str, about: str, **bounds: int) -> Json:
    """A list of these parts."""
    return {"type": "array", "items": {"$ref": f"#/$defs/{name}"}, **bounds, "description": about}


def page(head: str, title: str, top: Json, parts: Mapping[str, Json]) -> str:
    """A mapping, and the parts that it refers to, as a page for readers, in Markdown."""
    lines = [head, *_section(title, top)]
    for name, own in parts.items():
        lines += ["", *_section(f"`{name}`", own)]
    return "\n".join(lines) + "\n"


def _section(title: str, own: Json) -> Iterator[str]:
    """One mapping of a schema as a section of a Markdown page."""
    yield f"## {title}"
    yield ""
    yield own["description"]
    yield ""
    yield "| key | holds | meaning |"
    yield "| --- | --- | --- |"
    for key, value in own["properties"].items():
        optional = "" if key in own["required"] else ", optional"
        default = f" Default: `{json.dumps(value['default'])}`." if "default" in value else ""
        yield f"| `{key}` | {_holds(value)}{optional} | {value['description']}{default} |"


def _holds(value: Json) -> str:
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{word}`" for word in value["enum"])
    if "$ref" in value:
        return _name(value)
    if "anyOf" in value:
        return " or ".join(_holds(choice) for choice in value["anyOf"])
    kind = value["type"]
    if kind == "array":
        items = value["items"]
        if "enum" in items:
            return f"list of {_holds(items)}"
        of = f"list of {_name(items)}" if "$ref" in items else " ".join([f"list of {items['type']}s", *_bounds(items)])
        return f"{of}, two" if value.get("maxItems") == 2 else of
    if isinstance(kind, list):
        return " or ".join(kind)
    return " ".join(["mapping" if kind == "object" else "text" if kind == "string" else kind, *_bounds(value)])


def _bounds(value: Json) -> list[str]:
    low = [f"from {value['minimum']}"] if "minimum" in value else []
    low += [f"above {value['exclusiveMinimum']}"] if "exclusiveMinimum" in value else []
    if value.get("maximum", _NO_BOUND) < _NO_BOUND:
        return [*low, f"to {value['maximum']}"]
    high = [f"below {value['exclusiveMaximum']}"] if "exclusiveMaximum" in value else []
    return [", ".join(low + high)] if low + high else []


def _name(value: Json) -> str:
    return f"`{value['$ref'].rpartition('/')[2]}`"
