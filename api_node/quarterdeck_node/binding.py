"""From a request's bytes to rows a model can take: bound by name, nothing coerced, refused with row and column named.

Validators are compiled once per version from its schema. The parser itself bounds nesting and number length; what it leaves
open (duplicate names, NaN as null, very many values) is checked here by counting bytes, so that a good request pays next to
nothing for it. Values never appear in an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from pydantic_core import CoreSchema, ErrorDetails, SchemaValidator, ValidationError, core_schema, to_json

from quarterdeck.column_rows import ColumnRows
from quarterdeck.errors import InvalidInput, Malformed, TooLarge
from quarterdeck.row_rules import MISFIT, WORDS, column_schema, row_schema, value_types
from quarterdeck.schema import Feature, FeatureType, Row, Schema
from quarterdeck_node.limits import DEFAULT, Limits
from quarterdeck_node.quick_rows import QuickRow, QuickRows

MAX_PROBLEMS = 10
MAX_STRAY_NAMES = 10_000
"""Names beyond those of a thousand good rows up to which a document is still told what is wrong with it."""
_ARRAYS = {"float": "float64", "int": "int64", "boolean": "bool"}
# Possessive, and an unfinished string reaches to the end of the document: whatever a caller sends, every byte is looked at once.
# A pattern that gives up at the end instead would start again at the next quote, and need hours for 8 MiB of escaped ones.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


def _validators(schema: Schema, limits: Limits, short: bool) -> tuple[SchemaValidator, SchemaValidator]:
    """For one row, and for a list of them."""
    row = row_schema(schema, _types(limits, short))
    return SchemaValidator(row), SchemaValidator(core_schema.list_schema(row, strict=True, max_length=limits.rows))


def _types(limits: Limits, short: bool) -> dict[FeatureType, CoreSchema]:
    return value_types(limits.string, limits.digits, short=short)


class Binder:
    """Reads rows of one schema.

    Args:
        schema: the version's contract.
        limits: of the node.
    """

    def __init__(self, schema: Schema, limits: Limits = DEFAULT) -> None:
        self.schema = schema
        self._limits = limits
        self._width = len(schema.features)
        # So few bytes cannot hold too many values, and as many names as features are not too many.
        self._small = limits.values
        self._long = re.compile(rb"(?<![\d.eE+-])-?\d{%d}" % (limits.digits + 1))
        # A good document passes the first pair; only what does not is looked at by the second, which says why.
        self._one, self._many = _validators(schema, limits, short=True)
        self._any_one, self._any_many = _validators(schema, limits, short=False)
        self._quick, self._quick_row = QuickRows(schema, limits), QuickRow(schema, limits)
        self._columns = {
            feature.name: tuple(
                SchemaValidator(core_schema.list_schema(column_schema(feature, _types(limits, short)), strict=True))
                for short in (True, False)
            )
            for feature in schema.features
        }

    def read(self, body: bytes) -> tuple[Sequence[Row], bytes]:
        """Rows of a JSON document: one object, or an array of objects.

        Returns:
            (rows, the same as the JSON text of an array)

        Raises:
            Malformed: not JSON.
            InvalidInput: JSON that does not fit the schema; `extra.problems` lists row, column and what is wrong.
            TooLarge: more rows or values than the limits allow.
        """
        # One small record as nearly everyone sends it: whatever is not quite so is looked at by the rest, which says why.
        if body[:1] == b"{" and (row := self.one(body)) is not None:
            return [row], b"[%b]" % body
        # One look at the first character picks the validator, so nothing is parsed twice.
        many = body[:1] == b"[" or body.lstrip(b" \t\r\n")[:1] == b"["
        check_values(body, self._limits)
        names = self._names(body)
        if many and (quick := self._quick.read(body, names)) is not None:
            return quick, body
        # The parser would let infinities pass together with NaN, so such documents take the slow road.
        if b"NaN" in body:
            rows = self._with_nan(body, many)
            text = to_json(rows)
        else:
            rows = self._validated(body, many)
            text = body if many else b"[%b]" % body
        # Every name has its colon, so the count shows duplicates, which the parser resolves by taking the last.
        expected = len(rows) * self._width
        if names != expected and _bare(body).count(b":") != expected:
            raise InvalidInput("A name appears twice in one record.", code="duplicate-name", hint="Send each feature once.")
        return _some(rows), text

    def one(self, body: bytes) -> Row | None:
        """A single good record without colons in its texts; None where `read` has to look."""
        if len(body) < self._small and body.count(b":") == self._width:
            return self._quick_row.read(body)
        return None

    def _validated(self, body: bytes, many: bool) -> list[Row]:
        try:
            return self._many.validate_json(body) if many else [self._one.validate_json(body)]
        except ValidationError:
            pass
        # From here on it costs what it costs: nearly always this document is refused.
        check_depth(body, self._limits)
        try:
            rows = self._any_many.validate_json(body) if many else [self._any_one.validate_json(body)]
        except ValidationError as error:
            raise self._refusal(error, many) from None
        if self._long.search(_bare(body)):
            raise _too_long(self._limits.digits)
        return cast("list[Row]", rows)

    def _names(self, body: bytes) -> int:
        """How many colons the document has, which is at least how many names.

        Raises:
            TooLarge: far more names than any good document has.
            Malformed: they are so many because it nests without end.
        """
        names = body.count(b":")
        limit = self._limits.rows * self._width + MAX_STRAY_NAMES
        # The validator reports every single misfit: a million unknown names would cost a second and half a gigabyte. Strings
        # may hold colons as well, so a suspicious count is taken again without them.
        if names > limit and _bare(body).count(b":") > limit:
            check_depth(body, self._limits)
            raise TooLarge(f"The document has more than {limit:,} names.", code="too-many-values")
        return names

    def rows(self, rows: list[dict[str, Any]]) -> list[Row]:
        """Rows that a dialect or a form has put together already, checked as strictly as those of `read`.

        Raises:
            InvalidInput: they do not fit the schema.
            TooLarge: too many of them.
        """
        try:
            return _some(self._many.validate_python(rows))
        except ValidationError:
            pass
        try:
            found = _some(self._any_many.validate_python(rows))
        except ValidationError as error:
            raise self._refusal(error, True) from None
        for row in rows:
            self._check_digits(row.values())
        return found

    def _check_digits(self, values: Iterable[Any]) -> None:
        """Refuse a whole number of too many digits, also where it would fit a float."""
        # Parsers that are not ours read numbers of any length.
        most = 10**self._limits.digits
        if any(type(value) is int and not -most < value < most for value in values):
            raise _too_long(self._limits.digits)

    def columns(self, columns: Mapping[str, Any], count: int) -> ColumnRows:
        """Values that came by column, checked as strictly as those of `read`. NaN is null, where null is legal.

        Args:
            columns: by feature name, a numpy array of one dimension or a list each. Whole numbers fit a float feature, nothing
                else is converted.
            count: how many rows that makes.

        Raises:
            InvalidInput: a column is missing, not known, of another length or type, or holds what its feature cannot.
            TooLarge: too many rows.
        """
        if count > self._limits.rows:
            raise _too_many_rows(self._limits)
        _some(range(count))
        self._check_names(columns)
        problems: list[dict[str, Any]] = []
        bound = {feature.name: self._bind(feature, columns[feature.name], count, problems) for feature in self.schema.features}
        if problems:
            problems.sort(key=lambda problem: problem["row"])
            raise _not_fitting(problems[:MAX_PROBLEMS], len(problems))
        return ColumnRows(bound, count)

    def _check_names(self, columns: Mapping[str, Any]) -> None:
        missing = [name for name in self._columns if name not in columns]
        # An unknown column's name is the caller's own text: cut, so that an answer cannot be made huge by it.
        strays = [str(name)[:64] for name in columns if name not in self._columns]
        problems = [{"row": 0, "column": name, "problem": WORDS["missing"]} for name in missing]
        problems += [{"row": 0, "column": name, "problem": WORDS["extra_forbidden"]} for name in strays]
        if problems:
            raise _not_fitting(problems[:MAX_PROBLEMS], len(problems))

    def _bind(self, feature: Feature, given: Any, count: int, problems: list[dict[str, Any]]) -> Any:
        """One column as `ColumnRows` wants it; what is wrong with it is added to `problems`."""
        if len(given) != count:
            problems.append({"row": 0, "column": feature.name, "problem": f"must have {count} values"})
            return given
        array = _fitting_array(feature, given)
        if array is not None:
            return array
        values = given if isinstance(given, list) else given.tolist() if hasattr(given, "tolist") else list(given)
        if feature.nullable and feature.type == "float":
            values = [None if value != value else value for value in values]
        short, whatever = self._columns[feature.name]
        try:
            return _packed(feature, short.validate_python(values))
        except ValidationError:
            pass
        try:
            checked = whatever.validate_python(values)
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False, include_context=False)
            said = self._said
            problems += [
                {"row": int(detail["loc"][0]), "column": feature.name, "problem": said.get(detail["type"], MISFIT)}
                for detail in details
            ]
            return values
        # A typed array's numbers were never digits.
        if values is given:
            self._check_digits(values)
        return _packed(feature, checked)

    def each(self, rows: list[Any]) -> list[Row | InvalidInput]:
        """Every row by itself: the row, or why it is refused."""
        return [self._row_or_error(row) for row in rows]

    def _row_or_error(self, row: Any) -> Row | InvalidInput:
        try:
            return cast(Row, self._any_one.validate_python(row))
        except ValidationError as error:
            refusal = self._refusal(error, False)
            return refusal if isinstance(refusal, InvalidInput) else InvalidInput(refusal.detail)

    def _with_nan(self, body: bytes, many: bool) -> list[Row]:
        """The slow road for documents that may hold NaN, which is read as null; infinities stay refused."""
        found = parse(body, self._limits)
        try:
            rows = self._any_many.validate_python(found) if many else [self._any_one.validate_python(found)]
        except ValidationError as error:
            raise self._refusal(error, many) from None
        return cast("list[Row]", rows)

    @property
    def _said(self) -> dict[str, str]:
        return {**WORDS, "string_too_long": f"must have at most {self._limits.string} characters"}

    def _refusal(self, error: ValidationError, many: bool) -> Malformed | InvalidInput | TooLarge:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        first = details[0]
        # Said by the parser; its message has a place but never a value.
        if first["type"] == "json_invalid":
            return Malformed(f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}.")
        if first["type"] == "too_long":
            return _too_many_rows(self._limits)
        return _not_fitting(list(_problems(details[:MAX_PROBLEMS], many, self._said)), len(details))


def parse(body: bytes, limits: Limits = DEFAULT) -> Any:
    """Any JSON document, with NaN read as null and limits on depth, values and duplicate names.

    Infinities are read as what they are: a schema refuses them by row and column.

    Raises:
        Malformed: not JSON, too deep, or with a name twice in one object.
        InvalidInput: a whole number has too many digits.
        TooLarge: too many values.
    """
    check_values(body, limits)
    check_depth(body, limits)
    try:
        text = body.decode("utf-8")
        found = _decoder(limits.digits).decode(text)
        # A lone surrogate is legal in JSON text but is no character: nothing behind this door could store or send it.
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError):
            raise Malformed(f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}.") from None
        raise Malformed("The body is not JSON that can be read.") from None
    return found


def check_values(body: bytes, limits: Limits = DEFAULT) -> None:
    """Refuse a document of too many values.

    Raises:
        TooLarge: code ``too-many-values``.
    """
    # One comma less than there are values; those in strings count only where the rest would be too many.
    if body.count(b",") >= limits.values and _bare(body).count(b",") >= limits.values:
        raise too_many_values(limits)


def too_many_values(limits: Limits) -> TooLarge:
    """The refusal of a document of too many values."""
    return TooLarge(f"The document has more than {limits.values:,} values.", code="too-many-values")


def check_depth(body: bytes, limits: Limits = DEFAULT) -> None:
    """Refuse a document that nests too deep, without recursion.

    Raises:
        Malformed: code ``too-deep``.
    """
    if body.count(b"{") + body.count(b"[") <= limits.depth:
        return
    # A count, not recursion: the document decides how deep, and must not decide about our stack.
    depth = 0
    for sign in re.findall(rb"[\[\]{}]", _bare(body)):
        depth += 1 if sign in b"[{" else -1
        if depth > limits.depth:
            raise Malformed(f"The document nests deeper than {limits.depth} levels.", code="too-deep")


@cache
def _decoder(digits: int) -> json.JSONDecoder:
    """Made once: `json.loads` with hooks would make one per document."""

    def whole(text: str) -> int:
        if len(text) > digits + text.startswith("-"):
            raise _too_long(digits)
        return int(text)

    return json.JSONDecoder(parse_constant=_constant, object_pairs_hook=_pairs, parse_int=whole)


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


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


def _fitting_array(feature: Feature, given: Any) -> Any:
    """A numpy array that is right as it is, or after a change that loses nothing; None where each value has to be looked at."""
    kind = getattr(getattr(given, "dtype", None), "kind", "")
    if kind == "b" and feature.type == "boolean":
        return given
    if feature.type == "float" and kind in "fiu" and kind:
        # Bytes of a stranger's may be a NaN that numpy warns of.
        with np.errstate(invalid="ignore"):
            array = given.astype("float64", copy=False)
        # NaN and infinities are looked at one by one.
        return array if np.isfinite(array).all() else None
    # Whatever a signed array of at most 64 bits holds fits; unsigned ones may not.
    if feature.type == "int" and (kind == "i" or (kind == "u" and given.itemsize < 8)):
        return given.astype("int64", copy=False)
    return None


def _packed(feature: Feature, values: list[Any]) -> Any:
    """Checked values as an array where they are numbers without null."""
    kind = _ARRAYS.get(feature.type)
    if kind is None or (feature.nullable and None in values):
        return values
    return np.array(values, dtype=kind)


def _too_long(digits: int) -> InvalidInput:
    return InvalidInput(f"A number has more than {digits} digits.", code="number-too-long", hint="Write it with an exponent.")


def _too_many_rows(limits: Limits) -> TooLarge:
    return TooLarge(
        f"More than {limits.rows:,} records in one request.",
        code="too-many-rows",
        hint="Send them in several requests, or run a batch.",
    )


def _not_fitting(problems: list[dict[str, Any]], count: int) -> InvalidInput:
    said = problems[0]
    where = f"Row {said['row']}" + (f", column {said['column']}" if said["column"] else "")
    more = f" ({count} problems in all)" if count > 1 else ""
    return InvalidInput(
        f"{where}: {said['problem']}{more}.",
        hint="Compare with the schema at GET /deployments/{name}.",
        extra={"row": said["row"], "column": said["column"], "problems": problems},
    )


def _problems(details: list[ErrorDetails], many: bool, words: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for detail in details:
        place = list(detail["loc"])
        row = int(place.pop(0)) if many and place else 0
        # An unknown column's name is the caller's own text: cut, so that an answer cannot be made huge by it.
        column = str(place[0])[:64] if place else ""
        yield {"row": row, "column": column, "problem": words.get(detail["type"], MISFIT)}
