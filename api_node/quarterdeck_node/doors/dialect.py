"""What the doors of foreign dialects share: versions in paths, rows in the shapes that clients write them, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quarterdeck.errors import InvalidInput, Malformed, NotFound, QuarterdeckError
from quarterdeck.schema import Schema
from quarterdeck_node.doors.call import Call, Reply, json_reply
from quarterdeck_node.predictor import Slot

_DIGITS = 9


def version_in_path(call: Call) -> int | None:
    """The version that a versioned path names; None for the active one.

    Raises:
        NotFound: it is no number.
    """
    text = call.scope["path_params"].get("version")
    return None if text is None else version_number(str(text), call.name)


def version_number(text: str, deployment: str) -> int:
    """A version as clients write it.

    Raises:
        NotFound: it is no whole number.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise NotFound(f"{deployment} has no such version.", kind="version", hint="Versions are whole numbers.")
    return int(text)


def held(slot: Slot) -> list[int]:
    """The versions of a deployment that can answer here, ascending."""
    live = [slot.live.resident.ref.version] if slot.live is not None else []
    return sorted({*slot.versions, *live})


def visible(call: Call) -> list[Slot]:
    """The deployments that this caller may ask, by name."""
    secret, keyring = call.secret(), call.node.keyring
    slots = sorted(call.node.predictor.slots.items())
    return [slot for _, slot in slots if keyring.allows(secret, slot.plan, "predict", "read")]


def refused(error: QuarterdeckError, call: Call, members: dict[str, Any]) -> Reply:
    """An error in a dialect: its own members first, those of problem+json beside them, and 400 for what is 422 elsewhere."""
    status = 400 if error.status == 422 else error.status
    # As application/json: clients of these dialects read the message of that media type only.
    return json_reply({**members, **error.problem(), "status": status, "request_id": call.request_id}, status)


def expect(document: Any, known: Sequence[str], what: str) -> dict[str, Any]:
    """A document that must be an object with members of these names only.

    Raises:
        Malformed: it is something else, or has another member.
    """
    if not isinstance(document, dict):
        raise Malformed(f"{what} must be an object.", kind="member", hint=f"Its members are {', '.join(known)}.")
    if any(name not in known for name in document):
        said = f"{what} has a member that is not known here."
        raise Malformed(said, code="member-unknown", kind="member", hint=f"There is {', '.join(known)}.")
    return document


def records(given: Any, schema: Schema, what: str) -> list[Any]:
    """Rows as clients write them, as records: objects by name, lists in schema order, or single values for a single feature.

    Raises:
        InvalidInput: not a list, or a row has another length than the schema.
    """
    if not isinstance(given, list):
        raise InvalidInput(f"{what} must be a list of rows.", kind="member", name=what)
    names = schema.names
    return [_record(row, names, number) for number, row in enumerate(given)]


def by_column(given: dict[str, Any], what: str) -> tuple[dict[str, list[Any]], int]:
    """Columns as clients write them: a list of values by name, each value alone or in a list of its own.

    Returns:
        (columns, number of rows)

    Raises:
        InvalidInput: a column is no list, or they differ in length.
    """
    if not all(isinstance(values, list) for values in given.values()):
        raise InvalidInput(f"{what} must have a list of values for each feature.", kind="member", name=what)
    lengths = {len(values) for values in given.values()}
    if len(lengths) != 1:
        raise InvalidInput(f"The columns of {what} have different numbers of rows.", kind="member", name=what)
    return {name: [_alone(value) for value in values] for name, values in given.items()}, max(lengths)


def _record(row: Any, names: list[str], number: int) -> Any:
    if isinstance(row, dict):
        return {name: _alone(value) for name, value in row.items()}
    values = row if isinstance(row, list) else [row]
    if len(values) != len(names):
        raise InvalidInput(
            f"Row {number}: has {len(values)} values where the schema has {len(names)}.",
            kind="row",
            hint="A row that is a list has a value for each feature, in the schema's order.",
            extra={"row": number, "column": ""},
        )
    return dict(zip(names, values, strict=True))


def _alone(value: Any) -> Any:
    """A value that is wrapped in a list of its own, as tensors of shape [n, 1] are."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
