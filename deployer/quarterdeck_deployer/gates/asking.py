"""Rows of anybody's, asked of a version on trial: what does not fit its schema is told apart, as at a node's door."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_core import SchemaValidator, ValidationError

from quarterdeck.records import Answer
from quarterdeck.row_rules import MISFIT, WORDS, row_validator
from quarterdeck.schema import Row
from quarterdeck_deployer.trials import OnTrial, answers

_WIDTH = 64


def ask(trial: OnTrial, rows: Sequence[Row]) -> list[Answer | str]:
    """An answer to each row, or the words of why there is none; no value is repeated.

    Raises:
        ModelFailed: the model's process ended or hung.
    """
    validator = row_validator(trial.manifest.data_schema)
    found: list[Answer | str] = [_misfit(validator, row) for row in rows]
    fitting = [place for place, misfit in enumerate(found) if not misfit]
    given = answers(trial.model, [rows[place] for place in fitting]) if fitting else []
    for place, answer in zip(fitting, given, strict=True):
        found[place] = answer
    return found


def _misfit(validator: SchemaValidator, row: Row) -> str:
    try:
        validator.validate_python(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        column = str(first["loc"][0])[:_WIDTH] if first["loc"] else "row"
        return f"column {column} {WORDS.get(first['type'], MISFIT)}"
    return ""
