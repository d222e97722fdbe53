"""Which compiler belongs to which estimator: the table that estimators inside other estimators are looked up in, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from quarterdeck.compiled.program import Arithmetics, Check, Link, Lookup, Mean, OneHot, Step, Take
from quarterdeck.compiling.draft import Column, Draft, NotCompilable

Compiler = Callable[[Any, Sequence[Column], Draft], int]
"""Appends an estimator's steps to a draft, and gives the place of the last one."""
Unwrapper = Callable[[Any, Sequence[Column], Draft], tuple[Any, Sequence[Column]]]
"""The estimator inside another one, and the columns that it gets."""

Kind = type | str
"""A class, or its full name where its library is not to be imported: LightGBM need not be there where nobody uses it."""

T = TypeVar("T")
# Values of tables are numbers that people chose or counted; this bound only keeps them clear of float32's own.
_WITHIN_FLOAT32 = 1e38
NUDGE = 1e-12
"""Weight of a lean: far below what scores may differ by, far above what floats between 0 and 1 can tell apart."""
_HUGE = sys.float_info.max
_SCORES: dict[str, Compiler] = {}
_DECISIONS: dict[str, Compiler] = {}
_WRAPPERS: dict[str, Unwrapper] = {}
_REASONS: dict[str, str] = {}


def scoring(*kinds: Kind) -> Callable[[Compiler], Compiler]:
    """Register a compiler of `predict_proba` (classifiers) or `predict` (regressors) for these classes."""
    return lambda compiler: _registered(_SCORES, kinds, compiler)


def deciding(*kinds: Kind) -> Callable[[Compiler], Compiler]:
    """Register a compiler of `decision_function` for these classes: width 1 for two classes, else one column per class."""
    return lambda compiler: _registered(_DECISIONS, kinds, compiler)


def wrapping(*kinds: Kind) -> Callable[[Unwrapper], Unwrapper]:
    """Register what stands inside these classes: they answer as that does."""
    return lambda unwrapper: _registered(_WRAPPERS, kinds, unwrapper)


def refused(why: str, *kinds: Kind) -> None:
    """Register the reason why these classes have no compiled form."""
    _registered(_REASONS, kinds, why)


def known() -> list[str]:
    """The classes that can be compiled, as ``module.Class``."""
    return sorted({*_SCORES, *_DECISIONS, *_WRAPPERS})


def scores(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The place of a fitted estimator's scores: one column for a regressor, else one per class in `classes_` order.

    Raises:
        NotCompilable: names the class, and says why.
    """
    estimator, columns = _inner(estimator, columns, draft)
    return _found(_SCORES, estimator)(estimator, columns, draft)


def decision(estimator: Any, columns: Sequence[Column], draft: Draft) -> int:
    """The place of a fitted classifier's `decision_function`; `NotCompilable` as `scores`."""
    estimator, columns = _inner(estimator, columns, draft)
    return _found(_DECISIONS, estimator)(estimator, columns, draft)


def checked(columns: Sequence[Column], draft: Draft, *, nan: bool = False, float32: bool = False) -> int:
    """The columns side by side, refused where an estimator would refuse them.

    Args:
        columns: what the estimator takes.
        draft: where the steps go.
        nan: whether NaN passes.
        float32: whether the estimator rounds to float32, and refuses what that cannot hold.
    """
    return finite(draft.block(columns), draft, nan=nan, float32=float32)


def finite(block: int, draft: Draft, *, nan: bool = False, float32: bool = False) -> int:
    """A block, refused as `checked` says."""
    # A check costs time with every row: left out where the steps before let nothing else through.
    if _certain(draft, block, float32=float32):
        return block
    return draft.add(Check(input=block, nan=nan, float32=float32), draft.widths[block])


def probabilities(raw: int, draft: Draft) -> int:
    """Scores of a logistic model: p and 1 - p of one column, the softmax of several."""
    width = draft.widths[raw]
    if width > 1:
        return draft.add(Link(input=raw, function="softmax"), width)
    return pair(draft.add(Link(input=raw, function="sigmoid"), 1), draft)


def pair(block: int, draft: Draft) -> int:
    """Both classes' scores from the second one's."""
    return draft.add(Link(input=block, function="pair"), 2)


def likeliest(scores: int, decisions: int, draft: Draft) -> int:
    """Scores whose highest column is that of the decisions, where the original goes by these and scores may be equal.

    Args:
        scores: grow with the decisions, but only as far as floats can tell them apart.
        decisions: one column per class; an infinity is as good as the largest number.
        draft: where the steps go.
    """
    width = draft.widths[decisions]
    low = draft.add(Arithmetics(input=decisions, function="maximum", by=[-_HUGE] * width), width)
    bound = draft.add(Arithmetics(input=low, function="minimum", by=[_HUGE] * width), width)
    return nudged(scores, draft.add(Link(input=bound, function="softmax"), width), draft)


def nudged(scores: int, towards: int, draft: Draft) -> int:
    """Scores that lean towards others by so little that it only parts equal ones."""
    return draft.add(Mean(inputs=[scores, towards], weights=[1.0, NUDGE]), draft.widths[scores])


def take(block: int, column: int, draft: Draft) -> int:
    """One column of a block; the block itself where it has no other."""
    return block if draft.widths[block] == 1 else draft.add(Take(parts=[(block, column)]), 1)


def beside(blocks: Sequence[int], draft: Draft) -> int:
    """Blocks side by side."""
    if len(blocks) == 1:
        return blocks[0]
    parts = [(block, column) for block in blocks for column in range(draft.widths[block])]
    return draft.add(Take(parts=parts), len(parts))


def name_of(estimator: Any) -> str:
    """The class's full name, as the tables have it."""
    return _name(type(estimator))


def _registered(table: dict[str, T], kinds: Sequence[Kind], entry: T) -> T:
    table.update({kind if isinstance(kind, str) else _name(kind): entry for kind in kinds})
    return entry


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _inner(estimator: Any, columns: Sequence[Column], draft: Draft) -> tuple[Any, Sequence[Column]]:
    while unwrap := _WRAPPERS.get(name_of(estimator)):
        estimator, columns = unwrap(estimator, columns, draft)
    return estimator, columns


def _found(table: dict[str, Compiler], estimator: Any) -> Compiler:
    # By exact class: a subclass of somebody's own may answer anything.
    found = table.get(name_of(estimator))
    if found is None:
        why = _REASONS.get(name_of(estimator), "it has no compiled form")
        raise NotCompilable(f"{type(estimator).__name__}: {why}")
    return found


def _certain(draft: Draft, place: int, *, float32: bool) -> bool:
    """Whether no value of the block can be NaN, infinite or beyond what the estimator takes."""
    step: Step = draft.steps[place]
    if isinstance(step, OneHot):
        return True
    if isinstance(step, Link):
        return step.function != "exp"
    if isinstance(step, Check):
        return not step.nan and not step.infinite and (step.float32 or not float32)
    if isinstance(step, Lookup):
        rows = [*step.rows, *(row for row in (step.unseen, step.missing) if row is not None)]
        return all(value is not None and abs(value) < _WITHIN_FLOAT32 for row in rows for value in row)
    if isinstance(step, Take):
        return all(_certain(draft, part, float32=float32) for part in {part for part, _ in step.parts})
    return False
