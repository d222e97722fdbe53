"""Gate `schema`: the version accepts every row that callers have sent lately, by the rules that nodes read requests by.

Whole files of records are judged column by column: what a recorded column can hold is known from its type, so only nulls and
texts that must be dates are looked at one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import SchemaValidator, ValidationError

from quarterdeck.row_rules import MISFIT, WORDS, row_validator
from quarterdeck.schema import Feature, Schema
from quarterdeck_deployer.gates.kinds import MAX_LISTED, Finding

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]
_TYPE_WORDS = {
    "float": WORDS["float_type"],
    "int": WORDS["int_type"],
    "string": WORDS["string_type"],
    "boolean": WORDS["bool_type"],
    "datetime": WORDS["string_type"],
}
_WIDTH = 64
"""Characters of a foreign column's name that are told."""


class Misfit(NamedTuple):
    """Rows of a table that a column refuses, and why; the mask is as long as the table."""

    column: str
    reason: str
    rows: Mask


@dataclass(frozen=True)
class Refused:
    """Recorded rows of one caller that one column would refuse: how many, and one of them to look at."""

    caller: str
    column: str
    reason: str
    rows: int
    example: str


@dataclass(frozen=True)
class SchemaFacts:
    """What was read: rows in all, rows that would be refused, those by caller, column and reason, files that nobody can read."""

    deployment: str
    days: int
    rows: int
    refused_rows: int = 0
    refused: Sequence[Refused] = ()
    unreadable_files: int = 0


def judge(facts: SchemaFacts) -> Finding:
    """Pass where nothing that was accepted would be refused."""
    figures = {
        "rows": float(facts.rows),
        "refused": float(facts.refused_rows),
        "unreadable_files": float(facts.unreadable_files),
    }
    lately = f"the last {facts.days} days of {facts.deployment}"
    if not facts.refused:
        detail = f"It accepts all {facts.rows:,} rows of {lately}." if facts.rows else f"No row is recorded for {lately}."
        return Finding(passed=True, detail=detail, figures=figures)
    worst = max(facts.refused, key=lambda one: one.rows)
    return Finding(
        passed=False,
        detail=f"It would refuse {facts.refused_rows:,} of {facts.rows:,} rows of {lately}, most often of "
        f"{worst.caller or 'callers without a key'}: column {worst.column} {worst.reason}.",
        code="schema-refuses",
        figures=figures,
        listed=[
            {"caller": one.caller, "column": one.column, "reason": one.reason, "rows": one.rows, "example": one.example}
            for one in sorted(facts.refused, key=lambda one: -one.rows)[:MAX_LISTED]
        ],
    )


class Judge:
    """Judges tables of recorded rows by one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator: SchemaValidator | None = None

    def misfits(self, table: pa.Table) -> list[Misfit]:
        """Which rows the schema refuses, by column and reason; `table` as record files of main hold it."""
        if "features" in table.column_names:
            return list(self._by_column(table["features"].combine_chunks(), table.num_rows))
        return self._by_row([json.loads(text) for text in table["features_json"].to_pylist()])

    def _by_column(self, rows: pa.StructArray, count: int) -> Iterator[Misfit]:
        names = {field.name for field in rows.type}
        everything = np.ones(count, dtype=np.bool_)
        for feature in self._schema.features:
            if feature.name not in names:
                yield Misfit(feature.name, WORDS["missing"], everything)
            else:
                yield from _column(feature, rows.field(feature.name))
        for name in sorted(names - set(self._schema.names)):
            yield Misfit(name[:_WIDTH], WORDS["extra_forbidden"], everything)

    def _by_row(self, rows: Sequence[Any]) -> list[Misfit]:
        # Made only for the few files whose rows fitted no schema of that time.
        self._validator = self._validator or row_validator(self._schema)
        found: dict[tuple[str, str], Mask] = {}
        for place, row in enumerate(rows):
            try:
                self._validator.validate_python(row)
            except ValidationError as error:
                for detail in error.errors(include_url=False, include_input=False, include_context=False):
                    column = str(detail["loc"][0])[:_WIDTH] if detail["loc"] else ""
                    key = (column, WORDS.get(detail["type"], MISFIT))
                    found.setdefault(key, np.zeros(len(rows), dtype=np.bool_))[place] = True
        return [Misfit(column, reason, mask) for (column, reason), mask in found.items()]


def count(misfits: Sequence[Misfit]) -> int:
    """How many rows of one table are refused for whatever reason."""
    return int(np.logical_or.reduce([misfit.rows for misfit in misfits]).sum()) if misfits else 0


def tally(misfits: Sequence[Misfit], table: pa.Table, names: Mapping[str, str]) -> list[Refused]:
    """Misfits of one table by the key that their caller showed; `names` of keys by id, who has none is called by the id."""
    found = []
    for column, reason, mask in misfits:
        rows = table.select(["row_id", "key_id"]).filter(pa.array(mask))
        for counted in pc.value_counts(rows["key_id"]).to_pylist():
            first = pc.index(rows["key_id"], counted["values"]).as_py()
            caller = names.get(counted["values"], counted["values"])
            found.append(Refused(caller, column, reason, counted["counts"], rows["row_id"][first].as_py()))
    return found


def _column(feature: Feature, values: pa.Array) -> Iterator[Misfit]:
    nulls = _mask(values.is_null())
    if not _fits(feature, values.type):
        yield Misfit(feature.name, _TYPE_WORDS[feature.type], ~nulls)
    elif feature.type == "datetime":
        wrong = [text for text in values.unique().to_pylist() if text is not None and not _is_datetime(text)]
        if wrong:
            yield Misfit(feature.name, WORDS["value_error"], _mask(pc.is_in(values, pa.array(wrong, values.type))))
    if not feature.nullable and nulls.any():
        yield Misfit(feature.name, _TYPE_WORDS[feature.type], nulls)


def _fits(feature: Feature, kind: pa.DataType) -> bool:
    """Whether whatever a recorded column of this type holds can be sent for the feature; nulls and dates aside."""
    if feature.type == "float":
        return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
    # Records do not tell 3 from 3.0, and callers who sent the latter would be refused: the careful answer is no.
    if feature.type == "int":
        return bool(pa.types.is_integer(kind))
    if feature.type == "boolean":
        return bool(pa.types.is_boolean(kind))
    return bool(pa.types.is_string(kind))


def _is_datetime(text: str) -> bool:
    try:
        _DATETIME.validate_python({"at": text})
    except ValidationError:
        return False
    return True


def _mask(values: pa.Array) -> Mask:
    found: Mask = values.to_numpy(zero_copy_only=False).astype(np.bool_)
    return found


# By the very validator that nodes use, so that the two cannot come to differ about what a date is.
_DATETIME = row_validator(Schema(task="regression", features=[Feature(name="at", type="datetime")]))
