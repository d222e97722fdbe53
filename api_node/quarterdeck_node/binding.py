"""From a request's bytes to rows a model can take: bound by name, nothing coerced, refused with row and column named.

Validators are compiled once per version from its schema. The parser itself bounds nesting and number length; what it leaves
open (duplicate names, NaN as null, very many values) is checked here by counting bytes, so that a good request pays next to
nothing for it. Values never appear in an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, cast

from pydantic_core import CoreSchema, ErrorDetails, SchemaValidator, ValidationError, core_schema

from quarterdeck.errors import InvalidInput, Malformed, TooLarge
from quarterdeck.schema import Feature, FeatureType, Row, Schema

MAX_ROWS = 1_000
MAX_DEPTH = 32
MAX_VALUES = 1_000_000
MAX_STRING = 65_536
MAX_PROBLEMS = 10
MAX_STRAY_NAMES = 10_000
"""Names beyond those of a thousand good rows up to which a document is still told what is wrong with it."""
_INT64 = 2**63
# Possessive, and an unfinished string reaches to the end of the document: whatever a caller sends, every byte is looked at once.
# A pattern that gives up at the end instead would start again at the next quote, and need hours for 8 MiB of escaped ones.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_SAID = {
    "missing": "is missing",
    "extra_forbidden": "is not a feature of this model",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "less_than_equal": "must fit 64 bits",
    "greater_than_equal": "must fit 64 bits",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "string_too_long": f"must have at most {MAX_STRING} characters",
    "bool_type": "must be true or false",
    "value_error": "must be an ISO 8601 date and time",
    "dict_type": "must be an object of feature names and values",
}


def _iso(value: str) -> str:
    datetime.fromisoformat(value)
    return value


_TYPES: dict[FeatureType, CoreSchema] = {
    "float": core_schema.float_schema(strict=True, allow_inf_nan=False),
    "int": core_schema.int_schema(strict=True, ge=-_INT64, le=_INT64 - 1),
    "string": core_schema.str_schema(strict=True, max_length=MAX_STRING),
    "boolean": core_schema.bool_schema(strict=True),
    "datetime": core_schema.no_info_after_validator_function(_iso, core_schema.str_schema(strict=True, max_length=64)),
}


def _column(feature: Feature) -> CoreSchema:
    kind = _TYPES[feature.type]
    return core_schema.nullable_schema(kind) if feature.nullable else kind


class Binder:
    """Reads rows of one schema.

    Args:
        schema: the version's contract.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        fields = {feature.name: core_schema.typed_dict_field(_column(feature)) for feature in schema.features}
        row = core_schema.typed_dict_schema(fields, strict=True, extra_behavior="forbid")
        self._one = SchemaValidator(row)
        self._many = SchemaValidator(core_schema.list_schema(row, strict=True, max_length=MAX_ROWS))
        self._width = len(fields)

    def read(self, body: bytes) -> tuple[list[Row], bool]:
        """Rows of a JSON document: one object, or an array of objects.

        Returns:
            (rows, whether it was an array)

        Raises:
            Malformed: not JSON.
            InvalidInput: JSON that does not fit the schema; `extra.problems` lists row, column and what is wrong.
            TooLarge: more than 1,000 rows or a million values.
        """
        # One look at the first character picks the validator, so nothing is parsed twice.
        many = body.lstrip(b" \t\r\n")[:1] == b"["
        _check_values(body)
        names = self._names(body)
        try:
            # The parser would let infinities pass together with NaN, so such documents take the slow road.
            if b"NaN" in body:
                rows = self._with_nan(body, many)
            else:
                rows = self._many.validate_json(body) if many else [self._one.validate_json(body)]
        except ValidationError as error:
            raise _refusal(error, body, many) from None
        # Every name has its colon, so the count shows duplicates, which the parser resolves by taking the last.
        expected = len(rows) * self._width
        if names != expected and _bare(body).count(b":") != expected:
            raise InvalidInput("A name appears twice in one record.", code="duplicate-name", hint="Send each feature once.")
        return _some(rows), many

    def _names(self, body: bytes) -> int:
        """How many colons the document has, which is at least how many names.

        Raises:
            TooLarge: far more names than any good document has.
            Malformed: they are so many because it nests without end.
        """
        names = body.count(b":")
        limit = MAX_ROWS * self._width + MAX_STRAY_NAMES
        # The validator reports every single misfit: a million unknown names would cost a second and half a gigabyte. Strings
        # may hold colons as well, so a suspicious count is taken again without them.
        if names > limit and _bare(body).count(b":") > limit:
            check_depth(body)
            raise TooLarge(f"The document has more than {limit:,} names.", code="too-many-values")
        return names

    def rows(self, rows: list[dict[str, Any]]) -> list[Row]:
        """Rows that a dialect or a form has put together already, checked as strictly as those of `read`.

        Raises:
            InvalidInput: they do not fit the schema.
            TooLarge: more than 1,000 of them.
        """
        try:
            return _some(self._many.validate_python(rows))
        except ValidationError as error:
            raise _refusal(error, b"", True) from None

    def each(self, rows: list[Any]) -> list[Row | InvalidInput]:
        """Every row by itself: the row, or why it is refused."""
        return [self._row_or_error(row) for row in rows]

    def _row_or_error(self, row: Any) -> Row | InvalidInput:
        try:
            return cast(Row, self._one.validate_python(row))
        except ValidationError as error:
            refusal = _refusal(error, b"", False)
            return refusal if isinstance(refusal, InvalidInput) else InvalidInput(refusal.detail)

    def _with_nan(self, body: bytes, many: bool) -> list[Row]:
        """The slow road for documents that may hold NaN, which is read as null; infinities stay refused."""
        found = parse(body)
        return cast("list[Row]", self._many.validate_python(found) if many else [self._one.validate_python(found)])


def parse(body: bytes) -> Any:
    """Any JSON document, with NaN read as null and limits on depth, values and duplicate names.

    Raises:
        Malformed: not JSON, deeper than 32, or with a name twice in one object.
        TooLarge: more than a million values.
    """
    _check_values(body)
    check_depth(body)
    try:
        text = body.decode("utf-8")
        found = json.loads(text, parse_constant=_constant, object_pairs_hook=_pairs)
        # A lone surrogate is legal in JSON text but is no character: nothing behind this door could store or send it.
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            raise Malformed(f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}.") from None
        raise Malformed("The body is not JSON that can be read.") from None
    return found


def _check_values(body: bytes) -> None:
    # Commas inside strings count too: an honest document is a thousand times below this.
    if body.count(b",") > MAX_VALUES:
        raise TooLarge(f"The document has more than {MAX_VALUES:,} values.", code="too-many-values")


def check_depth(body: bytes) -> None:
    """Refuse a document that nests deeper than 32, without recursion.

    Raises:
        Malformed: code ``too-deep``.
    """
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    # A count, not recursion: the document decides how deep, and must not decide about our stack.
    depth = 0
    for sign in re.findall(rb"[\[\]{}]", _bare(body)):
        depth += 1 if sign in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Malformed(f"The document nests deeper than {MAX_DEPTH} levels.", code="too-deep")


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(name)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("A name appears twice in one object.", code="duplicate-name", hint="Send each name once.")
    return found


def _bare(body: bytes) -> bytes:
    """The document without its strings: only structure, numbers and literals are left."""
    return _STRING.sub(b"", body)


def _some(rows: Any) -> list[Row]:
    if not rows:
        raise InvalidInput("The list of records is empty.", code="no-rows", hint="Send at least one record.")
    return cast("list[Row]", rows)


def _refusal(error: ValidationError, body: bytes, many: bool) -> Malformed | InvalidInput | TooLarge:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    first = details[0]
    # Said by the parser; its message has a place but never a value.
    if first["type"] == "json_invalid":
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and "recursion" in first["msg"]:
            return Malformed(f"The document nests deeper than {MAX_DEPTH} levels.", code="too-deep")
        return Malformed(f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
    if first["type"] == "too_long":
        return TooLarge(
            f"More than {MAX_ROWS:,} records in one request.",
            code="too-many-rows",
            hint="Send them in several requests, or run a batch.",
        )
    problems = list(_problems(details[:MAX_PROBLEMS], many))
    said = problems[0]
    where = f"Row {said['row']}" + (f", column {said['column']}" if said["column"] else "")
    more = f" ({len(details)} problems in all)" if len(details) > 1 else ""
    return InvalidInput(
        f"{where}: {said['problem']}{more}.",
        hint="Compare with the schema at GET /deployments/{name}.",
        extra={"row": said["row"], "column": said["column"], "problems": problems},
    )


def _problems(details: list[ErrorDetails], many: bool) -> Iterator[dict[str, Any]]:
    for detail in details:
        place = list(detail["loc"])
        row = int(place.pop(0)) if many and place else 0
        # An unknown column's name is the caller's own text: cut, so that an answer cannot be made huge by it.
        column = str(place[0])[:64] if place else ""
        yield {"row": row, "column": column, "problem": _SAID.get(detail["type"], "does not fit the schema")}
