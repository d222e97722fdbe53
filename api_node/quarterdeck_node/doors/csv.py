"""CSV in and out: a header with the features' names, then one line per record.

An empty cell is null where the feature may be null, and an empty text where it is a text that may not. Numbers are written as in
JSON, truths as true and false.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from quarterdeck.errors import InvalidInput, Malformed
from quarterdeck.schema import Feature, Row
from quarterdeck_node.answers import Answers, label_text
from quarterdeck_node.binding import Binder, too_many_values
from quarterdeck_node.limits import Limits

MEDIA = ("text/csv", "application/csv")
# The module would refuse texts that a node's own limit lets through; that limit and the body's bound them here.
csv.field_size_limit(2**31 - 1)
# What Python's own reading of numbers lets through beyond these would be taken for a number that nobody wrote: 1_000, nan, ٣.
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_NUMBERS = re.compile(r"[-+.eE0-9,]*")
_WHOLE = re.compile(r"[-+]?\d{1,30}", re.ASCII)
_TRUTHS = {f(word): word == "true" for word in ("true", "false") for f in (str.lower, str.upper, str.capitalize)}


def read(body: bytes, binder: Binder, limits: Limits) -> Sequence[Row]:
    """The records of a document, bound by the names in its header.

    Raises:
        Malformed: not UTF-8, or no CSV.
        InvalidInput: it does not fit the schema; `extra` names row and column.
        TooLarge: more rows or values than the node takes.
    """
    try:
        # Spreadsheets put a mark before the first byte, and other programs empty lines behind the last.
        text = io.StringIO(body.rstrip(b"\r\n").decode("utf-8-sig"), newline="")
        # One line too many is enough to be refused by: an empty one takes a byte in the body and a list here.
        header, *lines = islice(csv.reader(text, strict=True), limits.rows + 2)
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise Malformed("The body is not CSV in UTF-8 with a header.") from None
    # An empty cell takes a byte there and an object here; a header is a line as well.
    if len(header) * max(len(lines), 1) > limits.values:
        raise too_many_values(limits)
    if len(set(header)) != len(header):
        raise InvalidInput("A column is named twice.", code="duplicate-name", kind="header")
    for number, line in enumerate(lines):
        if len(line) != len(header):
            said = f"Row {number}: has {len(line)} values where the header has {len(header)}."
            raise InvalidInput(said, kind="row", extra={"row": number, "column": ""})
    features = {feature.name: feature for feature in binder.schema.features}
    found = dict(zip(header, zip(*lines, strict=True) if lines else ((),) * len(header), strict=True))
    return binder.columns({name: _column(features.get(name), cells) for name, cells in found.items()}, len(lines))


def write(answers: Answers, classes: Sequence[Any]) -> bytes:
    """Answers as CSV: `prediction`, then for a classifier `score_…` of each class."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(["prediction", *(f"score_{label_text(label)}" for label in classes)])
    numbers = answers.numbers().decode().split(",")
    if classes:
        width = len(classes)
        labels = map(label_text, answers.labels())
        lines.writerows([label, *numbers[at * width : (at + 1) * width]] for at, label in enumerate(labels))
    else:
        lines.writerows([number] for number in numbers)
    return out.getvalue().encode()


def _column(feature: Feature | None, cells: Sequence[str]) -> list[Any]:
    # Columns that are no feature are refused by their name, whatever they hold.
    if feature is None or feature.type in ("string", "datetime"):
        return [cell or None for cell in cells] if feature is not None and feature.nullable else list(cells)
    # The usual column has numbers in every cell: looked at as one text, and converted without a step in between.
    if feature.type == "float" and _NUMBERS.fullmatch(",".join(cells)):
        try:
            return list(map(float, cells))
        except ValueError:
            pass
    said, parse = _CELLS[feature.type]
    return [_cell(feature, cell, number, parse, said) for number, cell in enumerate(cells)]


def _cell(feature: Feature, cell: str, row: int, parse: Callable[[str], Any], said: str) -> Any:
    if not cell or (cell == "NaN" and feature.type == "float"):
        return None
    found = parse(cell)
    if found is None:
        raise InvalidInput(
            f"Row {row}, column {feature.name}: {said}.",
            hint="Compare with the schema at GET /deployments/{name}.",
            extra={"row": row, "column": feature.name, "problems": [{"row": row, "column": feature.name, "problem": said}]},
        )
    return found


def _float(cell: str) -> float | None:
    return float(cell) if _NUMBER.fullmatch(cell) else None


def _int(cell: str) -> int | None:
    return int(cell) if _WHOLE.fullmatch(cell) else None


_CELLS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "float": ("must be a number", _float),
    "int": ("must be a whole number", _int),
    "boolean": ("must be true or false", _TRUTHS.get),
}
