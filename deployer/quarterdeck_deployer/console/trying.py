"""Try it: a form made from the schema, one row asked of main and of the challenger, and the same call for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from quarterdeck.schema import Feature, Row, Scalar, Schema

PREFIX = "f."
"""Names of form fields begin with this, so that a feature may have any name."""
TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Field:
    """One input: its feature, what stands in it, and what is wrong with that."""

    feature: Feature
    text: str
    problem: str = ""

    @property
    def name(self) -> str:
        """Name of the form field."""
        return PREFIX + self.feature.name


@dataclass(frozen=True)
class Answered:
    """One role's answer as the page shows it, or the sentence why there is none."""

    role: str
    version: str
    digest: str
    prediction: str = ""
    scores: list[tuple[str, float]] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class Snippets:
    """The same call for programs."""

    curl: str
    python: str
    cli: str


@dataclass(frozen=True)
class TryForm:
    """The form, and after it was sent the answers; `target` is what is predicted, `project` whose it is."""

    fields: list[Field] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    snippets: Snippets | None = None
    target: str = ""
    project: str | None = None

    @property
    def problems(self) -> list[Field]:
        """Fields that hold something impossible."""
        return [one for one in self.fields if one.problem]


@dataclass(frozen=True)
class Doors:
    """How the nodes are reached, and what opens them."""

    main_url: str
    challenger_url: str
    key: str = field(repr=False)
    mirror_token: str = field(repr=False)


def fields_of(schema: Schema, row: Row) -> list[Field]:
    """A field for each feature, filled from a row."""
    return [Field(feature, _text(row.get(feature.name))) for feature in schema.features]


def read(schema: Schema, typed: Mapping[str, str]) -> tuple[list[Field], Row]:
    """What was typed, as fields and as a row; a field that cannot be read says why and is left out of the row."""
    fields, row = [], {}
    for feature in schema.features:
        text = typed.get(PREFIX + feature.name, "").strip()
        try:
            row[feature.name] = _value(feature, text)
            fields.append(Field(feature, text))
        except ValueError as error:
            fields.append(Field(feature, text, str(error)))
    return fields, row


def snippets(url: str, name: str, row: Row, *, keyed: bool) -> Snippets:
    """The call for curl, Python and the CLI.

    Args:
        url: main's plain door.
        name: of the deployment.
        row: as the door takes it.
        keyed: whether callers need an API key.
    """
    body = json.dumps(row, ensure_ascii=False)
    # The shell's only way to put a single quote between single quotes.
    quoted = body.replace("'", "'\\''")
    header = ' \\\n  -H "Authorization: Bearer $QUARTERDECK_KEY"' if keyed else ""
    python_header = ',\n    headers={"Authorization": "Bearer " + os.environ["QUARTERDECK_KEY"]}' if keyed else ""
    imports = "import os\n\nimport httpx" if keyed else "import httpx"
    return Snippets(
        curl=f"curl {url}{header} \\\n  -H 'Content-Type: application/json' \\\n  -d '{quoted}'",
        python=f'{imports}\n\nanswer = httpx.post(\n    "{url}",\n    json={row!r}{python_header},\n)\nprint(answer.json())',
        cli=f"quarterdeck predict {name} --row '{quoted}'",
    )


async def ask_main(client: httpx.AsyncClient, doors: Doors, name: str, row: Row) -> Answered:
    """Main's answer at its plain door; it is recorded and mirrored like every other."""
    url = f"{doors.main_url}/deployments/{name}/predict"
    # One row: the door takes an object as well as a list.
    found, problem = await _post(client, url, row, doors.key)
    if found is None:
        return Answered("main", "", "", problem=problem)
    one = found["predictions"][0]
    scores = list(one.get("scores", {}).items())
    return Answered("main", f"{found['model']} v{found['version']}", found["digest"], _text(one["prediction"]), scores)


async def ask_challenger(client: httpx.AsyncClient, doors: Doors, name: str, row: Row, schema: Schema) -> Answered:
    """The challenger's answer at its mirroring door, which records nothing."""
    found, problem = await _post(client, f"{doors.challenger_url}/mirror/{name}", {"rows": [row]}, doors.mirror_token)
    if found is None:
        return Answered("challenger", "", "", problem=problem)
    version, answer = f"{found['model']} v{found['version']}", found["answers"][0]
    if isinstance(answer, dict):
        return Answered("challenger", version, found["digest"], problem=f"It could not answer: {answer['error']}.")
    # strict=False: regressions have neither classes nor scores.
    scores = [(_text(label), score) for label, score in zip(schema.classes, answer[1], strict=False)]
    return Answered("challenger", version, found["digest"], _text(answer[0]), scores)


async def _post(client: httpx.AsyncClient, url: str, body: Any, token: str) -> tuple[Any, str]:
    """The JSON answer, or a sentence about what went wrong."""
    try:
        answer = await client.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT_SECONDS)
        found = answer.json()
    except httpx.TimeoutException:
        return None, f"The node did not answer within {TIMEOUT_SECONDS:.0f} s."
    # Neither address nor reason: who fills in a form can do nothing with them.
    except (httpx.HTTPError, ValueError):
        return None, "The node cannot be reached; see its log."
    if answer.status_code != 200:
        hint = found.get("hint", "")
        return None, f"{found.get('detail', 'The node refused.')} {hint}".strip()
    return found, ""


def _value(feature: Feature, text: str) -> Scalar:
    # Browsers send an empty field as empty text; what that means depends on the feature.
    if not text:
        if feature.nullable:
            return None
        if feature.type != "string":
            raise ValueError("is needed")
    readers = {"float": _float, "int": _int, "boolean": _boolean}
    return readers[feature.type](text) if feature.type in readers else text


def _float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number, e.g. 3.5") from None
    # JSON has no word for these, and doors refuse them.
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number, e.g. 3") from None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _text(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    # 7 reads better than 7.0 in a form, and means the same.
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
