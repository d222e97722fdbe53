"""The arithmetic of steps: one function on blocks of columns for each, operation by operation that of the original.

Blocks are float64 arrays of shape (columns, rows): each column lies in one piece. Every kernel treats a row alike, whatever
rows come with it, so that one row alone and the same row among many get the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from quarterdeck.compiled.program import (
    Apply,
    Arithmetics,
    Bins,
    Check,
    Interpolate,
    Link,
    Mean,
    Normalize,
    Number,
    Power,
    Products,
    Quantile,
    Step,
)
from quarterdeck.compiled.values import BOUND, EPS, LARGEST_POWER, NEARLY_ZERO, added, bayes, exponential, normal

Block = np.ndarray[Any, np.dtype[np.float64]]
Kernel = Callable[[Block], Block]
Refusals = Callable[[Block], np.ndarray[Any, np.dtype[np.bool_]]]
EACH_COLUMN = (Apply, Arithmetics, Bins, Check, Interpolate, Number, Power, Quantile)
"""Steps of which each column depends on the same column of its input alone."""

# The largest number that rounds to a finite float32.
FLOAT32_LIMIT = float(np.nextafter(2.0**128 - 2.0**103, 0.0))


def kernel(step: Step) -> Kernel:
    """The function of a step whose every column depends on one column of its input.

    Args:
        step: one of `EACH_COLUMN`, its constants those of the columns that will come.
    """
    match step:
        case Arithmetics():
            return partial(_arithmetic, step.function, np.array(step.by)[:, None])
        case Apply():
            return partial(_apply, step.function)
        case Power():
            return partial(_power, step)
        case Quantile():
            return _quantiles(step)
        case Bins():
            edges = [np.array(column) for column in step.edges]
            return lambda block: np.stack([_bin(each, column) for each, column in zip(edges, block, strict=True)])
        case Interpolate():
            return lambda block: np.interp(block, step.x, step.y)
        case _:
            # Checks give back what they are given; what they refuse is `refusals`.
            return lambda block: block


def cut(step: Step, columns: Sequence[int]) -> Step:
    """The same step for some of its columns only, its constants likewise."""
    match step:
        case Arithmetics():
            return step.model_copy(update={"by": [step.by[column] for column in columns]})
        case Power():
            return step.model_copy(update={"lambdas": [step.lambdas[column] for column in columns]})
        case Quantile():
            return step.model_copy(update={"quantiles": [step.quantiles[column] for column in columns]})
        case Bins():
            return step.model_copy(update={"edges": [step.edges[column] for column in columns]})
        case _:
            return step


def refusals(step: Step) -> Refusals | None:
    """Which values of a block the step refuses, as a block of booleans; None where it refuses none."""
    if isinstance(step, Power) and step.method == "box-cox":
        return lambda block: block <= 0
    if isinstance(step, Number) and step.bounds is not None:
        low, high = step.bounds
        return lambda block: (block < low) | (block > high)
    if isinstance(step, Check):
        return partial(_unwanted, step)
    return None


def whole(step: Step) -> Kernel:
    """The function of a step that mixes columns: `products`, `normalize` or `link`."""
    match step:
        case Products():
            return partial(_products, step.factors)
        case Normalize():
            return partial(_normalize, step)
        case Link():
            return partial(link, step.function)
        case _:
            raise TypeError(step.op)


def mean(step: Mean, blocks: Sequence[Block]) -> Block:
    """The weighted mean of blocks of one shape."""
    total = blocks[0] * step.weights[0]
    for weight, block in zip(step.weights[1:], blocks[1:], strict=True):
        total = total + block * weight
    return total / weight_sum(step)


def weight_sum(step: Mean) -> float:
    """What a mean is divided by."""
    return added(step.weights)


def weighted(weights: Sequence[float], block: Block) -> Block:
    """The sum of all columns, each times its weight, added up one after the other; shape (rows,)."""
    # numpy adds along the first axis in order where rows are many; a single row it would add up pairwise.
    products = block * np.array(weights)[:, None]
    if block.shape[1] != 1:
        total: Block = np.add.reduce(products, axis=0)
        return total
    return np.add.accumulate(products[:, 0])[-1:]


def _unwanted(step: Check, block: Block) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = np.zeros(block.shape, dtype=bool)
    if not step.nan:
        found |= np.isnan(block)
    if not step.infinite:
        found |= np.isinf(block)
    if step.float32:
        # Infinities are the other switch's business.
        found |= (np.abs(block) > FLOAT32_LIMIT) & ~np.isinf(block)
    return found


def _arithmetic(function: str, by: Block, block: Block) -> Block:
    if function == "fill":
        return np.where(np.isnan(block), by, block)
    if function == "lift":
        return np.where((block > 0.0) & (block < by), by, block)
    found: Block = getattr(np, function)(block, by)
    return found


def _apply(function: str, block: Block) -> Block:
    if function == "float32":
        return block.astype(np.float32).astype(np.float64)
    return np.asarray(getattr(np, function)(block), dtype=np.float64)


def _power(step: Power, block: Block) -> Block:
    one = _yeo_johnson_column if step.method == "yeo-johnson" else _box_cox_column
    return np.stack([one(column, power) for column, power in zip(block, step.lambdas, strict=True)])


def _yeo_johnson_column(column: Block, power: float) -> Block:
    up = np.log1p(column) if abs(power) < EPS else np.expm1(power * np.log1p(column)) / power
    rest = 2 - power
    down = -np.expm1(rest * np.log1p(-column)) / rest if abs(rest) > EPS else -np.log1p(-column)
    return np.where(column >= 0, up, down)


def _box_cox_column(column: Block, power: float) -> Block:
    # The same three cases as scipy.special.boxcox, which are decided per value there as well.
    logarithm = np.log(column)
    if abs(power) < NEARLY_ZERO:
        return logarithm
    near = np.expm1(power * logarithm) / power
    far = math.copysign(1.0, power) * np.exp(power * logarithm - math.log(abs(power))) - 1 / power
    return np.where(power * logarithm < LARGEST_POWER, near, far)


def _quantiles(step: Quantile) -> Kernel:
    references = np.array(step.references)
    columns = [np.array(values) for values in step.quantiles]
    gaussian = step.distribution == "normal"
    return lambda block: np.stack(
        [_quantile(column, values, references, gaussian) for column, values in zip(block, columns, strict=True)]
    )


def _quantile(column: Block, quantiles: Block, references: Block, gaussian: bool) -> Block:
    up = np.interp(column, quantiles, references)
    down = np.interp(-column, -quantiles[::-1], -references[::-1])
    found = 0.5 * (up - down)
    if gaussian:
        high, low = column + BOUND > quantiles[-1], column - BOUND < quantiles[0]
    else:
        high, low = column == quantiles[-1], column == quantiles[0]
    found[high] = 1.0
    found[low] = 0.0
    if not gaussian:
        return found
    return np.fromiter(map(normal, found.tolist()), dtype=np.float64, count=len(found))


def _bin(edges: Block, column: Block) -> Block:
    return np.searchsorted(edges, column, side="right").astype(np.float64)


def _products(factors: Sequence[Sequence[int]], block: Block) -> Block:
    found = np.ones((len(factors), block.shape[1]))
    for place, columns in enumerate(factors):
        # From the last to the first, as PolynomialFeatures multiplies higher degrees from lower ones.
        for number, column in enumerate(reversed(columns)):
            found[place] = block[column] * found[place] if number else block[column]
    return found


def _normalize(step: Normalize, block: Block) -> Block:
    parts = block * block if step.norm == "l2" else np.abs(block)
    total = parts[0]
    for part in parts[1:]:
        total = np.maximum(total, part) if step.norm == "max" else total + part
    total = np.sqrt(total) if step.norm == "l2" else total
    return block / np.where(total < step.least, 1.0, total)


def link(function: str, block: Block) -> Block:
    """What a `link` step, or the objective of a LightGBM text, makes of raw scores: shape (columns, rows)."""
    match function:
        case "sigmoid":
            return 1.0 / (1.0 + _exponentials(-block))
        case "exp":
            return _exponentials(block)
        case "pair":
            return np.concatenate([1.0 - block, block])
        case "softmax":
            # The library's exponential differs from numpy's in last bits, depending on the processor; this one does not.
            return _shares(_exponentials(block - _highest(block)))
        case "bayes":
            return np.array([bayes(row) for row in block.T.tolist()]).reshape(block.T.shape).T
        case _:
            total = _total(block)
            with_sum = block / np.where(total == 0.0, 1.0, total)
            return np.where(total == 0.0, 1.0 / len(block), with_sum)


def _exponentials(block: Block) -> Block:
    values = block.ravel().tolist()
    try:
        found = np.fromiter(map(math.exp, values), dtype=np.float64, count=len(values))
    except OverflowError:
        found = np.fromiter(map(exponential, values), dtype=np.float64, count=len(values))
    return found.reshape(block.shape)


def _highest(block: Block) -> Block:
    found: Block = block[0]
    for column in block[1:]:
        found = np.maximum(found, column)
    return found


def _total(block: Block) -> Block:
    found: Block = block[0]
    for column in block[1:]:
        found = found + column
    return found


def _shares(block: Block) -> Block:
    return block / _total(block)
