"""Transformers that make, choose or combine columns of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import get_tags
from sklearn.utils._set_output import _get_output_config

from quarterdeck.compiled.program import Apply, Arithmetics, Bins, Function, Linear, OneHot, Products
from quarterdeck.compiling.blocks import Chain, Transformer, checked, doubles, is_plain, outputs, precision, together
from quarterdeck.compiling.draft import Column, Draft, NotCompilable

# Of numpy's functions those that answer whole numbers with floats, and those that keep their input's type.
_ANALYTIC: dict[str, Function] = {
    name: name for name in ("cbrt", "cos", "exp", "expm1", "log", "log10", "log1p", "log2", "sin", "sqrt", "tan", "tanh")
}
_FLOATS_ONLY: dict[str, Function] = {
    "absolute": "abs",
    "ceil": "ceil",
    "fabs": "abs",
    "floor": "floor",
    "isnan": "isnan",
    "negative": "negative",
    "reciprocal": "reciprocal",
    "rint": "rint",
    "sign": "sign",
    "square": "square",
}
_WIDE = {"int32", "int64", "uint32", "uint64"}


def function(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """FunctionTransformer without a function, or with one of numpy's that programs have."""
    if estimator.validate:
        dtype = precision(columns) if all(is_plain(column.dtype) for column in columns) else "float64"
        columns = outputs(draft, checked(columns, draft), dtype, any(column.sparse for column in columns))
    if estimator.func is None:
        return list(columns)
    if not isinstance(estimator.func, np.ufunc) or estimator.kw_args:
        raise NotCompilable("FunctionTransformer: it calls a function that is not one of numpy's known ones")
    return [_applied(estimator.func.__name__, column, draft) for column in columns]


def discretizer(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """KBinsDiscretizer."""
    chain = Chain(columns, draft, nan=False)
    chain.then(Bins(input=chain.place, edges=[[float(edge) for edge in edges[1:-1]] for edges in estimator.bin_edges_]))
    dtype = chain.precision if estimator.dtype is None else np.dtype(estimator.dtype).name
    binned = outputs(draft, chain.place, dtype)
    if estimator.encode == "ordinal":
        return binned
    found = []
    for column, count in zip(binned, estimator.n_bins_, strict=True):
        width = int(count)
        places = list(range(width))
        # There is no other bin.
        step = OneHot(input=draft.block([column]), width=width, values=places, columns=places, unseen=-1, missing=-1)
        found += outputs(draft, draft.add(step, width), dtype, sparse=estimator.encode == "onehot")
    return found


def polynomial(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """PolynomialFeatures."""
    doubles(estimator, columns)
    chain = Chain(columns, draft, nan=False)
    powers = estimator.powers_.tolist()
    factors = [[place for place, power in enumerate(row) for _ in range(power)] for row in powers]
    place = draft.add(Products(input=chain.place, factors=factors), len(factors))
    return outputs(draft, place, "float64", chain.sparse)


def components(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """PCA."""
    doubles(estimator, columns)
    place = checked(columns, draft)
    # The mean's projection is taken off after the product, as scikit-learn does it.
    bias = -(estimator.mean_.reshape(1, -1) @ estimator.components_.T)[0]
    width = len(estimator.components_)
    place = draft.add(Linear(input=place, weights=estimator.components_.tolist(), bias=bias.tolist()), width)
    if not estimator.whiten:
        return outputs(draft, place)
    scale = np.sqrt(estimator.explained_variance_)
    # Without this, a column of no variance would be divided by almost nothing.
    scale[scale < np.finfo(scale.dtype).eps] = np.finfo(scale.dtype).eps
    return outputs(draft, draft.add(Arithmetics(input=place, function="divide", by=scale.tolist()), width))


def truncated(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """TruncatedSVD."""
    doubles(estimator, columns)
    width = len(estimator.components_)
    step = Linear(input=checked(columns, draft), weights=estimator.components_.tolist(), bias=[0.0] * width)
    return outputs(draft, draft.add(step, width))


def selector(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """Everything that only chooses columns."""
    sparse = any(column.sparse for column in columns)
    # A frame that stays one is not looked at; an array is, every column of it.
    if _get_output_config("transform", estimator)["dense"] == "default":
        dtype = together(columns, sparse=sparse)[0].dtype
        # One that takes NaN takes infinities too: it compares nothing.
        place = draft.block(columns) if get_tags(estimator).input_tags.allow_nan else checked(columns, draft)
        columns = outputs(draft, place, dtype, sparse)
    return [columns[place] for place in np.flatnonzero(estimator.get_support()).tolist()]


def _applied(name: str, column: Column, draft: Draft) -> Column:
    functions = {**_ANALYTIC, **_FLOATS_ONLY} if column.dtype == "float64" else _ANALYTIC if column.dtype in _WIDE else {}
    if name not in functions:
        raise NotCompilable(f"FunctionTransformer: numpy.{name} of a column of {column.dtype} has no compiled form")
    place = draft.add(Apply(input=draft.block([column]), function=functions[name]), 1)
    return outputs(draft, place, "bool" if name == "isnan" else "float64")[0]


_SELECTION = "sklearn.feature_selection"
COMPILERS: dict[str, Transformer] = {
    "sklearn.preprocessing._function_transformer.FunctionTransformer": function,
    "sklearn.preprocessing._discretization.KBinsDiscretizer": discretizer,
    "sklearn.preprocessing._polynomial.PolynomialFeatures": polynomial,
    "sklearn.decomposition._pca.PCA": components,
    "sklearn.decomposition._truncated_svd.TruncatedSVD": truncated,
    f"{_SELECTION}._variance_threshold.VarianceThreshold": selector,
    f"{_SELECTION}._from_model.SelectFromModel": selector,
    f"{_SELECTION}._rfe.RFE": selector,
    f"{_SELECTION}._rfe.RFECV": selector,
    f"{_SELECTION}._sequential.SequentialFeatureSelector": selector,
    **{
        f"{_SELECTION}._univariate_selection.{name}": selector
        for name in ("SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect")
    },
}
