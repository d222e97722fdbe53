"""Trees written as LightGBM text: read back by LightGBM's library, every value takes the way that the tree says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.compiled.trees import Booster
from quarterdeck.compiling.draft import NotCompilable
from quarterdeck.compiling.tree_text import Tree, constant, text

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda value: value == 0 or abs(value) > 1e-34)


def stump(threshold: float, *, left: bool = False, values: tuple[float, float] = (1.0, 2.0), **named: Any) -> Tree:
    """One node over the first column, with two leaves."""
    return Tree(
        feature=np.array([0, -1, -1]),
        threshold=np.array([threshold, 0.0, 0.0]),
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        default_left=np.array([left, False, False]),
        value=np.array([0.0, *values]),
        count=np.array([5, 3, 2]),
        **named,
    )


def answers(model: bytes, values: list[float], *, transform: bool = False) -> list[float]:
    """What the library makes of one column."""
    found: list[float] = Booster(model).predict(np.array(values).reshape(-1, 1), transform=transform)[:, 0].tolist()
    return found


@given(threshold=FINITE, value=FINITE, leaves=st.tuples(FINITE, FINITE))
def test_every_float_survives_the_text(threshold: float, value: float, leaves: tuple[float, float]) -> None:
    """Thresholds and leaves read back bit by bit: the side and the answer are exact."""
    assert answers(text([[stump(threshold, values=leaves)]], 1), [value]) == [leaves[0] if value <= threshold else leaves[1]]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("threshold", [0.0, math.inf])
def test_missing_values_take_their_own_side(threshold: float, left: bool) -> None:
    """NaN goes by the node; a threshold of infinity parts missing values from all others."""
    found = answers(text([[stump(threshold, left=left)]], 1), [math.nan, -math.inf, 0.0, math.inf])
    assert found == [1.0 if left else 2.0, 1.0, 1.0, 1.0 if threshold == math.inf else 2.0]


@pytest.mark.parametrize("threshold", [1e-36, -1e-36, 5e-324])
def test_thresholds_that_cannot_be_told_from_zero_are_refused(threshold: float) -> None:
    """LightGBM reads numbers as small as these as 0, and would part rows elsewhere."""
    with pytest.raises(NotCompilable, match="too small"):
        text([[stump(threshold)]], 1)


def test_categories_go_left_by_their_code() -> None:
    """Codes beyond a word of bits are among them; unknown, negative and missing ones go right."""
    codes = [0, 31, 32, 70]
    model = text([[stump(0.0, categories={0: codes})]], 1)
    assert answers(model, [0, 31, 32, 70]) == [1.0] * 4
    assert answers(model, [1, 33, 71, 1000, -1, math.nan]) == [2.0] * 6


def test_rounds_are_added_up_in_order_and_averaged_on_demand() -> None:
    """The sum is that of the original, term after term; a tree may be one leaf."""
    terms = [0.1, 0.2, 0.3, 1e16, -1e16]
    rounds = [[constant(term)] for term in terms]
    assert answers(text(rounds, 1), [0.0]) == [sum(terms)]
    assert answers(text(rounds, 1, average=True), [0.0], transform=True) == [sum(terms) / 5]


def test_contributions_weigh_branches_by_their_rows() -> None:
    """The base is the mean over the training rows, and every leaf counts for one row at least."""
    found = Booster(text([[stump(0.0)]], 1)).contributions(np.array([[1.0]]))[0, 0]
    assert found.tolist() == pytest.approx([2.0 - 1.4, 1.4])
    empty = stump(0.0)
    empty.count[:] = 0
    assert np.isfinite(Booster(text([[empty]], 1)).contributions(np.array([[1.0]]))).all()
