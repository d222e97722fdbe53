"""From fitted transformers to steps: what a pipeline, a ColumnTransformer or a FeatureUnion puts together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sklearn.utils._set_output import _get_output_config

from quarterdeck.compiled.program import Arithmetics
from quarterdeck.compiling import encoders, features, imputers, scalers
from quarterdeck.compiling.blocks import Transformer, name_of, outputs, together
from quarterdeck.compiling.draft import Column, Draft, NotCompilable, Raw
from quarterdeck.frames import Column as TrainingColumn
from quarterdeck.frames import Columns, frame_of
from quarterdeck.schema import Feature

_BY_CLASS: dict[str, Transformer] = {**encoders.COMPILERS, **features.COMPILERS, **imputers.COMPILERS, **scalers.COMPILERS}


def input_columns(draft: Draft, columns: Columns) -> list[Column]:
    """The features as the model gets them, in the order of the training data.

    Args:
        draft: whose schema has the features.
        columns: how the training data held them.
    """
    features = {feature.name: feature for feature in draft.schema.features}
    raws = [_raw(features[column.name], column) for column in columns.columns]
    if columns.container == "frame":
        return [Column(raw.feature, raw, raw.dtype) for raw in raws]
    # One array has one dtype: what numpy makes of the frame's.
    dtype = str(frame_of([], columns.columns).to_numpy().dtype)
    return [Column(f"x{place}", raw, dtype) for place, raw in enumerate(raws)]


def transform(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    """Append the steps of a fitted transformer, and give the columns that come out of it.

    Args:
        estimator: a transformer of scikit-learn's, a pipeline of such, or `None` or ``"passthrough"``.
        columns: what goes in.
        draft: where the steps go.

    Raises:
        NotCompilable: names the class, and says why.
    """
    if estimator is None or (isinstance(estimator, str) and estimator == "passthrough"):
        return list(columns)
    # By exact class: a subclass of somebody's own may compute anything.
    kind = name_of(estimator)
    if kind in _COMPOSED:
        return _COMPOSED[kind](estimator, columns, draft)
    if kind not in _BY_CLASS:
        raise NotCompilable(f"{type(estimator).__name__}: {_REASONS.get(kind, 'it has no compiled form')}")
    return _BY_CLASS[kind](estimator, columns, draft)


def known() -> list[str]:
    """The classes that can be compiled, as ``module.Class``."""
    return sorted({*_BY_CLASS, *_COMPOSED} - imputers.NEVER)


def _pipeline(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    for _, step in estimator.steps:
        columns = transform(step, columns, draft)
    return list(columns)


def _column_transformer(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    # Names, places, slices, masks and functions alike were resolved when it was fitted.
    places = estimator._transformer_to_input_indices
    weights = estimator.transformer_weights or {}
    parts = []
    for name, step, _ in estimator.transformers_:
        if _is_dropped(step) or not len(places[name]):
            continue
        found = transform(step, [columns[place] for place in places[name]], draft)
        parts.append(_weighted(found, weights.get(name), draft))
    return _stacked(estimator, parts, sparse=bool(estimator.sparse_output_))


def _feature_union(estimator: Any, columns: Sequence[Column], draft: Draft) -> list[Column]:
    weights = estimator.transformer_weights or {}
    steps = [(name, step) for name, step in estimator.transformer_list if not _is_dropped(step)]
    parts = [_weighted(transform(step, columns, draft), weights.get(name), draft) for name, step in steps]
    return _stacked(estimator, parts, sparse=any(column.sparse for part in parts for column in part))


def _stacked(estimator: Any, parts: Iterable[list[Column]], *, sparse: bool) -> list[Column]:
    found = [column for part in parts for column in part]
    # Frames side by side keep each column's dtype; arrays become one.
    if _get_output_config("transform", estimator)["dense"] == "default":
        return together(found, sparse=sparse)
    return [replace(column, sparse=False) for column in found]


def _weighted(columns: list[Column], weight: float | None, draft: Draft) -> list[Column]:
    if weight is None or not columns:
        return columns
    if any(column.dtype != "float64" for column in columns):
        raise NotCompilable("a weight is given to columns that are not float64")
    place = draft.block(columns)
    step = Arithmetics(input=place, function="multiply", by=[float(weight)] * len(columns))
    return outputs(draft, draft.add(step, len(columns)), sparse=any(column.sparse for column in columns))


def _is_dropped(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


def _raw(feature: Feature, column: TrainingColumn) -> Raw:
    return Raw(
        feature=feature.name,
        type=feature.type,
        nullable=feature.nullable,
        dtype=column.dtype,
        missing=column.missing,
        categories=None if column.categories is None else tuple(column.categories),
    )


_WORDS = "it counts the words of a text, and no step of a program reads words"
_REASONS = {
    "sklearn.feature_extraction.text.CountVectorizer": _WORDS,
    "sklearn.feature_extraction.text.HashingVectorizer": _WORDS,
    "sklearn.feature_extraction.text.TfidfVectorizer": _WORDS,
    "sklearn.preprocessing._polynomial.SplineTransformer": "no step of a program computes splines",
}
_COMPOSED: dict[str, Transformer] = {
    "sklearn.pipeline.Pipeline": _pipeline,
    "sklearn.pipeline.FeatureUnion": _feature_union,
    "sklearn.compose._column_transformer.ColumnTransformer": _column_transformer,
}
