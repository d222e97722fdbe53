"""Scalers: the same operations in the same order as scikit-learn's, so that thresholds after them see the same bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from quarterdeck.compiled.program import Bins, Normalize, Power, Quantile
from quarterdeck.compiling.blocks import Chain, Transformer, dense, doubles
from quarterdeck.compiling.draft import Column, Draft


def standard(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """StandardScaler."""
    chain = Chain(columns, draft, nan=True)
    # Its statistics take the precision of the block first; those of other scalers do not.
    kind = np.dtype(chain.precision).type
    if chain.sparse:
        if estimator.scale_ is not None:
            chain.by("multiply", 1 / estimator.scale_)
        return chain.columns()
    if estimator.with_mean:
        chain.by("subtract", estimator.mean_.astype(kind))
    if estimator.with_std:
        chain.by("divide", estimator.scale_.astype(kind))
    return chain.columns()


def min_max(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """MinMaxScaler."""
    chain = Chain(columns, draft, nan=True)
    chain.by("multiply", estimator.scale_)
    chain.by("add", estimator.min_)
    if estimator.clip:
        _clip(chain, *estimator.feature_range)
    return chain.columns()


def max_abs(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """MaxAbsScaler."""
    chain = Chain(columns, draft, nan=True)
    _scale(chain, estimator.scale_)
    if estimator.clip:
        _clip(chain, -1.0, 1.0)
    return chain.columns()


def robust(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """RobustScaler."""
    chain = Chain(columns, draft, nan=True)
    if estimator.with_centering and not chain.sparse:
        chain.by("subtract", estimator.center_)
    if estimator.with_scaling:
        _scale(chain, estimator.scale_)
    return chain.columns()


def power(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """PowerTransformer, and the StandardScaler inside it."""
    doubles(estimator, columns)
    dense(estimator, columns)
    chain = Chain(columns, draft, nan=True)
    chain.then(Power(input=chain.place, method=estimator.method, lambdas=[float(value) for value in estimator.lambdas_]))
    # What overflows here is refused by the scaler inside, as every infinity.
    return standard(estimator._scaler, chain.columns(), draft) if estimator.standardize else chain.columns()


def quantile(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """QuantileTransformer."""
    doubles(estimator, columns)
    dense(estimator, columns)
    chain = Chain(columns, draft, nan=True)
    chain.then(
        Quantile(
            input=chain.place,
            references=estimator.references_.tolist(),
            quantiles=estimator.quantiles_.T.tolist(),
            distribution=estimator.output_distribution,
        )
    )
    return chain.columns()


def normalizer(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """Normalizer."""
    doubles(estimator, columns)
    chain = Chain(columns, draft, nan=False)
    # In an array scikit-learn takes a norm next to 0 for none at all; in a sparse matrix 0 alone.
    least = {} if chain.sparse else {"least": 10 * float(np.finfo(np.float64).eps)}
    chain.then(Normalize(input=chain.place, norm=estimator.norm, **least))
    return chain.columns()


def binarizer(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """Binarizer."""
    chain = Chain(columns, draft, nan=False)
    # Above the threshold is the same as at least the next number after it, which is how edges are counted.
    kind = np.dtype(chain.precision).type
    edge = float(np.nextafter(kind(estimator.threshold), kind(math.inf)))
    chain.then(Bins(input=chain.place, edges=[[edge]] * len(columns)))
    return chain.columns()


def _scale(chain: Chain, scale: Any) -> None:
    # Sparse columns are multiplied by the reciprocal, which may differ from the quotient in the last bit.
    if chain.sparse:
        chain.by("multiply", 1.0 / scale)
    else:
        chain.by("divide", scale)


def _clip(chain: Chain, low: float, high: float) -> None:
    chain.by("maximum", low)
    chain.by("minimum", high)


COMPILERS: dict[str, Transformer] = {
    "sklearn.preprocessing._data.StandardScaler": standard,
    "sklearn.preprocessing._data.MinMaxScaler": min_max,
    "sklearn.preprocessing._data.MaxAbsScaler": max_abs,
    "sklearn.preprocessing._data.RobustScaler": robust,
    "sklearn.preprocessing._data.PowerTransformer": power,
    "sklearn.preprocessing._data.QuantileTransformer": quantile,
    "sklearn.preprocessing._data.Normalizer": normalizer,
    "sklearn.preprocessing._data.Binarizer": binarizer,
}
