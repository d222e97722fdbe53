"""Programs run alike by the function for one row and by columns: the same bits, the same refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterdeck.column_rows import ColumnRows
from quarterdeck.compiled.model import CompiledModel
from quarterdeck.compiled.program import Program
from quarterdeck.errors import ModelFailed
from quarterdeck.schema import Row
from tests.unit.compiled_programs import ROWS, SCHEMA, boosters, programs


def outcome(ask: Any) -> Any:
    """What a call gives, or what its error says."""
    try:
        return ask()
    except ModelFailed as error:
        return error.problem()


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit; a zero's sign is none of them."""
    return bool(one == other)


@settings(max_examples=400)
@given(program=programs(), rows=st.lists(ROWS, min_size=1, max_size=4))
def test_one_row_and_many_give_the_same_bits(program: Program, rows: list[Row]) -> None:
    """Whatever the steps and values: asked alone, among others or by column, a row gets the same number or the same refusal."""
    with warnings.catch_warnings():
        # Runs of random steps must not warn either.
        warnings.simplefilter("error")
        model = CompiledModel(SCHEMA, program, boosters())
        batch = [outcome(lambda row=row: tuple(model.batch.scores([row])[0].tolist())) for row in rows]
        single = [outcome(lambda row=row: model.scores(row)) for row in rows]
    for one, other in zip(single, batch, strict=True):
        assert same(one, other) or (isinstance(one, dict) and isinstance(other, tuple) and not np.isfinite(other).all())
    answered = [row for row, found in zip(rows, single, strict=True) if isinstance(found, tuple)]
    if answered:
        expected = [found for found in single if isinstance(found, tuple)]
        # Enough of them that columns are used.
        many = model.many(answered * 40)
        assert [tuple(row) for row in many.tolist()] == expected * 40
        columns = ColumnRows({name: [row[name] for row in answered] for name in SCHEMA.names}, len(answered))
        assert [tuple(row) for row in model.many(columns).tolist()] == expected
