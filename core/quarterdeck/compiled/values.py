"""The arithmetic of steps for one number: what `kernels` do with columns, operation by operation, in plain Python.

A kernel costs microseconds whatever the number of its rows; these cost fractions of one, and give the same bits.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from quarterdeck.compiled.program import Interpolate, Power, Quantile

EPS = float(np.finfo(np.float64).eps)
"""Powers so near to 0 or 2 are those themselves for the Yeo-Johnson transformation, as scipy has it."""
BOUND = 1e-7
"""scikit-learn's QuantileTransformer takes values so close to a bound for it, and ends its normal distribution there."""
LOWEST = NormalDist().inv_cdf(BOUND - float(np.spacing(1)))
"""Where that distribution begins."""
HIGHEST = NormalDist().inv_cdf(1 - (BOUND - float(np.spacing(1))))
"""Where it ends."""
NEARLY_ZERO = 1e-19
"""Powers so small make scipy's Box-Cox transformation a logarithm."""
LARGEST_POWER = 709.78
"""From here on scipy reckons that transformation in logarithms, for e^x is beyond float64."""

Value = Callable[[float], float]


def one_value(step: Power | Quantile | Interpolate, column: int) -> Value:
    """The function of one column of a step; raises ValueError for what the step refuses."""
    match step:
        case Power(method="yeo-johnson"):
            return _yeo_johnson(step.lambdas[column])
        case Power():
            return _box_cox(step.lambdas[column])
        case Quantile():
            return _quantile(step.quantiles[column], step.references, step.distribution == "normal")
        case Interpolate():
            return lambda value: interpolated(value, step.x, step.y)


def sigmoid(value: float) -> float:
    """1 / (1 + e^-x), 0 where that overflows."""
    try:
        return 1.0 / (1.0 + math.exp(-value))
    except OverflowError:
        return 0.0


def exponential(value: float) -> float:
    """e^x, infinite where that overflows."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def softmax(values: Sequence[float]) -> list[float]:
    """One row's shares of e^x."""
    highest = max(values)
    powers = [exponential(value - highest) for value in values]
    whole = added(powers)
    return [power / whole for power in powers]


def bayes(values: Sequence[float]) -> list[float]:
    """One row's shares of e^x as scipy's logsumexp has them: the highest ones apart, the sum's logarithm rounded as they are."""
    highest = max(values)
    others = added([0.0, *(math.exp(value - highest) for value in values if value != highest)])
    count = sum(value == highest for value in values) or math.nan
    whole = math.log1p(others / count) + math.log(count) + highest
    return [exponential(value - whole) for value in values]


def shares(values: Sequence[float]) -> list[float]:
    """One row divided by its sum, uniform where that is 0."""
    whole = added(values)
    return [1.0 / len(values)] * len(values) if whole == 0.0 else [value / whole for value in values]


def added(values: Sequence[float]) -> float:
    """The sum from left to right: `sum` of newer interpreters rounds otherwise."""
    found = values[0]
    for value in values[1:]:
        found += value
    return found


def normal(share: float) -> float:
    """The normal distribution's quantile, ended where scikit-learn ends it. NaN stays."""
    if share <= 0.0:
        return LOWEST
    if share >= 1.0:
        return HIGHEST
    # Not min and max: NaN has no order.
    found = NormalDist().inv_cdf(share) if share == share else share
    return LOWEST if found < LOWEST else min(found, HIGHEST)


def interpolated(value: float, x: Sequence[float], y: Sequence[float]) -> float:
    """`numpy.interp` for one number."""
    if value != value:
        return value
    place = bisect_right(x, value) - 1
    if place < 0:
        return y[0]
    # A point itself is never reckoned, lest a slope that is none spoil it.
    if place == len(x) - 1 or x[place] == value:
        return y[place]
    slope = (y[place + 1] - y[place]) / (x[place + 1] - x[place])
    return slope * (value - x[place]) + y[place]


def _yeo_johnson(power: float) -> Value:
    rest = 2 - power

    def value_of(value: float) -> float:
        if value >= 0:
            return float(np.log1p(value) if abs(power) < EPS else np.expm1(power * np.log1p(value)) / power)
        return float(-np.expm1(rest * np.log1p(-value)) / rest if abs(rest) > EPS else -np.log1p(-value))

    return value_of


def _box_cox(power: float) -> Value:
    def value_of(value: float) -> float:
        if value <= 0:
            raise ValueError
        logarithm = float(np.log(value))
        if abs(power) < NEARLY_ZERO:
            return logarithm
        if power * logarithm < LARGEST_POWER:
            return float(np.expm1(power * logarithm)) / power
        return math.copysign(1.0, power) * float(np.exp(power * logarithm - math.log(abs(power)))) - 1 / power

    return value_of


def _quantile(quantiles: Sequence[float], references: Sequence[float], gaussian: bool) -> Value:
    down, references_down = [-value for value in reversed(quantiles)], [-value for value in reversed(references)]

    def value_of(value: float) -> float:
        found = 0.5 * (interpolated(value, quantiles, references) - interpolated(-value, down, references_down))
        if value + BOUND > quantiles[-1] if gaussian else value == quantiles[-1]:
            found = 1.0
        if value - BOUND < quantiles[0] if gaussian else value == quantiles[0]:
            found = 0.0
        return normal(found) if gaussian else found

    return value_of
