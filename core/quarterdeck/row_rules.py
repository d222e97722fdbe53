"""What a row must be to fit a schema: the rules by which nodes read requests and gates judge recorded ones.

Nothing is coerced: a whole number fits a float feature, everything else must be of its feature's own type.
"""

from __future__ import annotations

from datetime import datetime

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from quarterdeck.schema import Feature, FeatureType, Schema

MISFIT = "does not fit the schema"
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a feature of this model",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "less_than_equal": "must fit 64 bits",
    "greater_than_equal": "must fit 64 bits",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "value_error": "must be an ISO 8601 date and time",
    "dict_type": "must be an object of feature names and values",
}
"""What is wrong, in words, by the validator's own type of error; none of them repeats a value."""
_INT64 = 2**63
_FLOAT_DIGITS = 308


def value_types(string: int, digits: int, *, short: bool) -> dict[FeatureType, CoreSchema]:
    """What a value of each type may be.

    Args:
        string: characters of a string at most.
        digits: digits of a whole number at most.
        short: only numbers that are too small to have too many digits.
    """
    most = 10**digits if short else 2 * _INT64
    bound = float(most) if short and digits < _FLOAT_DIGITS else None
    return {
        "float": core_schema.float_schema(strict=True, allow_inf_nan=False, gt=bound and -bound, lt=bound),
        "int": core_schema.int_schema(strict=True, ge=max(-_INT64, 1 - most), le=min(_INT64, most) - 1),
        "string": core_schema.str_schema(strict=True, max_length=string),
        "boolean": core_schema.bool_schema(strict=True),
        "datetime": core_schema.no_info_after_validator_function(_iso, core_schema.str_schema(strict=True, max_length=64)),
    }


def column_schema(feature: Feature, types: dict[FeatureType, CoreSchema]) -> CoreSchema:
    """What one feature's value may be; `types` as `value_types` gives them."""
    kind = types[feature.type]
    return core_schema.nullable_schema(kind) if feature.nullable else kind


def row_schema(schema: Schema, types: dict[FeatureType, CoreSchema]) -> CoreSchema:
    """What a whole row may be: every feature, and nothing besides."""
    fields = {feature.name: core_schema.typed_dict_field(column_schema(feature, types)) for feature in schema.features}
    return core_schema.typed_dict_schema(fields, strict=True, extra_behavior="forbid")


def row_validator(schema: Schema, string: int = 65_536, digits: int = 20) -> SchemaValidator:
    """Judges rows that have been read already; see `value_types` for the limits."""
    return SchemaValidator(row_schema(schema, value_types(string, digits, short=False)))


def _iso(value: str) -> str:
    datetime.fromisoformat(value)
    return value
