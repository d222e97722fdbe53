"""Markdown tables of pydantic models: one table per model, in the order in which they are first mentioned."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from quarterdeck.rules import CEL_RULES

Json = dict[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars and line ends inside cells are made harmless."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell(text) for text in line)} |\n" for line in lines)


def cell(text: str) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def first_line(thing: object) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def model_tables(*models: type[BaseModel]) -> str:
    """Tables of the fields of some models and of all models below them."""
    parts: list[str] = []
    seen: set[str] = set()
    for model in models:
        schema = model.model_json_schema(by_alias=True, mode="serialization")
        definitions: Json = schema.get("$defs", {})
        waiting = [(model.__name__, schema)]
        while waiting:
            name, one = waiting.pop(0)
            if name not in seen and "properties" in one:
                seen.add(name)
                parts.append(_one_model(name, one))
                below = [each for field in one["properties"].values() for each in _references(field)]
                waiting += [(each, definitions[each]) for each in below]
    return "\n".join(parts)


def _one_model(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        [f"`{field}`", type_words(one), _default(one, field in required), one.get("description", "")]
        for field, one in schema["properties"].items()
    ]
    about = " ".join(schema.get("description", "").split("\n\n")[0].split())
    rules = "".join(f"- {rule['message']}\n" for rule in schema.get(CEL_RULES, ()))
    kept = f"\nWhat is refused:\n\n{rules}" if rules else ""
    return f"### {name}\n\n{about}\n\n{table(['field', 'type', 'default', 'meaning'], rows)}{kept}"


def _default(field: Json, required: bool) -> str:
    if "default" not in field:
        return "required" if required else ""
    # What is a table of its own shows its defaults there.
    if "$ref" in field and isinstance(field["default"], dict):
        return ""
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def type_words(schema: Json) -> str:
    """The type of a JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" if value else '`""`' for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(type_words(each) for each in schema[several]))
    if schema.get("type") == "array":
        return f"list of {type_words(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map to {type_words(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
        return own + [each for value in schema.values() for each in _references(value)]
    if isinstance(schema, list):
        return [each for value in schema for each in _references(value)]
    return []
