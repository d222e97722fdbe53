"""What a model takes and gives, read off its training data and the estimator itself."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor

from quarterdeck.errors import InvalidInput
from quarterdeck.frames import feature_type, scalar
from quarterdeck.schema import Feature, Label, Schema, Task

# Beyond this a text column is an identifier or prose, and listing its values would publish data, not a contract.
_MOST_CATEGORIES = 100
_LONGEST_NAME = 256
_OBJECTIVE = re.compile(r"^objective=(\w+)", re.MULTILINE)


def frame_from(data: Any, names: Sequence[str] = ()) -> pd.DataFrame:
    """Training data as a frame with text column names; `names` for the columns of a bare array.

    Raises:
        InvalidInput: it is no table, is empty, or has two columns of one name.
    """
    # A shallow copy: renaming the columns must not reach the caller's own frame.
    frame = data.copy(deep=False) if isinstance(data, pd.DataFrame) else _from_array(np.asarray(data), names)
    # JSON knows text keys only.
    frame.columns = pd.Index([str(name) for name in frame.columns])
    if frame.empty or not frame.columns.is_unique:
        hint = "Give a table that is not empty, and rename columns of one name."
        raise InvalidInput("The data needs rows and columns of different names.", kind="data", name="X", hint=hint)
    if not all(0 < len(name) <= _LONGEST_NAME for name in frame.columns):
        hint = "Rename the column before training."
        raise InvalidInput(f"Column names have 1 to {_LONGEST_NAME} characters.", kind="data", name="X", hint=hint)
    return frame


def _from_array(array: Any, names: Sequence[str]) -> pd.DataFrame:
    # numpy makes an array of one object of whatever it does not know, a sparse matrix among it.
    if array.ndim > 2 or array.ndim < 1:
        hint = "Give a DataFrame or an array of rows; make a sparse matrix dense."
        raise InvalidInput("The data is no table.", kind="data", name="X", hint=hint)
    # As objects stay objects: by itself pandas makes text columns of them, where None becomes NaN.
    frame = pd.DataFrame(array, dtype=array.dtype if array.dtype == object else None)
    found = list(names) or [f"column_{place}" for place in range(frame.shape[1])]
    if len(found) != frame.shape[1]:
        hint = "Give the columns that the model was trained on, in their order."
        raise InvalidInput(
            f"The data has {frame.shape[1]} columns, the model {len(found)} features.", kind="data", name="X", hint=hint
        )
    frame.columns = pd.Index(found)
    return frame


def labels_of(data: Any) -> list[Label]:
    """The target as plain Python values; `InvalidInput` where one is missing."""
    values = [scalar(value) for value in (data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)).ravel()]
    found = [value for value in values if value is not None]
    if len(found) != len(values):
        raise InvalidInput("The target has missing values.", kind="data", name="y", hint="Leave out rows without a target.")
    return found


def features_of(frame: pd.DataFrame, nullable: Collection[str], descriptions: Mapping[str, str]) -> list[Feature]:
    """The input columns.

    Args:
        frame: training data: types, categories, ranges and missing values.
        nullable: columns that take null although this data has none.
        descriptions: words by column name.

    Raises:
        InvalidInput: a name that is no column, or a column whose type has no JSON form.
    """
    unknown = sorted({*nullable, *descriptions} - set(frame.columns))
    if unknown:
        raise InvalidInput(
            f"There is no column {unknown[0]}.", kind="feature", name=unknown[0], hint="Name columns of the training data."
        )
    return [
        _feature(name, frame[name], name in nullable or bool(frame[name].isna().any()), descriptions.get(name, ""))
        for name in frame.columns
    ]


def schema_of(
    model: Any,
    target: str,
    features: list[Feature],
    classes: Sequence[Label] | None,
    positive: Label | None,
) -> Schema:
    """Features, task and classes as one schema.

    Args:
        model: an estimator of scikit-learn's interface, or a LightGBM Booster.
        target: name of the predicted column.
        features: the input columns.
        classes: labels in the order of the scores, for a Booster, which knows none; an estimator's own otherwise.
        positive: binary only; the second class where None.

    Raises:
        InvalidInput: no task can be read off the model.
    """
    task = booster_task(model.model_to_string()) if is_booster(model) else _estimator_task(model)
    if task == "regression":
        if positive is not None:
            raise InvalidInput(
                "A regression has no positive class.", kind="argument", name="positive", hint="Leave `positive` out."
            )
        return Schema(task=task, target=target, features=features)
    own = _booster_classes(model, task, classes) if is_booster(model) else _classes(model)
    if positive is not None and (len(own) > 2 or positive not in own):
        raise InvalidInput(
            "`positive` must be one of two classes.",
            kind="argument",
            name="positive",
            hint=f"The model's classes are {', '.join(str(label) for label in own)}.",
        )
    if len(own) == 2:
        chosen = own[1] if positive is None else positive
        return Schema(task="binary", target=target, classes=own, positive=chosen, features=features)
    return Schema(task="multiclass", target=target, classes=own, features=features)


def is_booster(model: Any) -> bool:
    """Whether this is LightGBM's bare Booster."""
    return _is_a(model, "lightgbm.basic", "Booster")


def is_lightgbm(model: Any) -> bool:
    """Whether this is a Booster or an estimator of LightGBM, with nothing around it."""
    return is_booster(model) or _is_a(model, "lightgbm.sklearn", "LGBMModel")


def booster_task(text: str) -> Task:
    """The task of a LightGBM model text, by its objective; custom ones are regressions."""
    # The text and not the parameters: a booster that was loaded from a file has forgotten the latter.
    found = _OBJECTIVE.search(text)
    objective = found.group(1) if found else ""
    return "binary" if objective == "binary" else "multiclass" if objective.startswith("multiclass") else "regression"


def _is_a(model: Any, module: str, name: str) -> bool:
    """By name, so that LightGBM need not be installed where nobody uses it."""
    return any((kind.__module__, kind.__name__) == (module, name) for kind in type(model).__mro__)


def _estimator_task(model: Any) -> Task:
    # A class has these attributes as well, and answers nothing.
    if isinstance(model, type) or not hasattr(model, "predict") or not hasattr(model, "__sklearn_tags__"):
        raise _no_task(model)
    # Decided by scikit-learn's tags, not by the presence of predict_proba: some outlier detectors have that too.
    if is_classifier(model):
        if not hasattr(model, "predict_proba"):
            raise InvalidInput(
                f"{type(model).__name__} gives no probabilities.",
                kind="model",
                name=type(model).__name__,
                hint="Wrap it in sklearn.calibration.CalibratedClassifierCV.",
            )
        return "binary"
    if is_regressor(model):
        return "regression"
    raise _no_task(model)


def _no_task(model: Any) -> InvalidInput:
    named = model if isinstance(model, type) else type(model)
    return InvalidInput(
        f"{named.__name__} is neither a classifier nor a regressor.",
        kind="model",
        name=named.__name__,
        hint="Give a fitted scikit-learn or LightGBM model.",
    )


def _classes(model: Any) -> list[Label]:
    found = getattr(model, "classes_", None)
    if not isinstance(found, np.ndarray) or found.ndim != 1 or len(found) < 2:
        raise InvalidInput(
            "The classifier has no single list of two classes or more.",
            kind="model",
            name=type(model).__name__,
            hint="Fit it on one target column with at least two classes.",
        )
    return labels_of(found)


def _booster_classes(model: Any, task: Task, classes: Sequence[Label] | None) -> list[Label]:
    count = 2 if task == "binary" else int(model.num_model_per_iteration())
    # LightGBM numbers classes from 0 and knows no other names for them.
    found = list(range(count)) if classes is None else list(classes)
    if len(found) != count:
        hint = "Name every class, in the order of the scores."
        raise InvalidInput(f"The booster has {count} classes, {len(found)} were named.", kind="model", name="classes", hint=hint)
    return list(found)


def _feature(name: str, series: Any, nullable: bool, description: str) -> Feature:
    kind = feature_type(series)
    low, high = _range(series) if kind in ("float", "int") and series.dtype != "category" else (None, None)
    return Feature(
        name=name,
        type=kind,
        nullable=nullable,
        categories=_categories(series, kind),
        minimum=low,
        maximum=high,
        description=description,
    )


def _categories(series: Any, kind: str) -> list[str] | None:
    """Category columns: all of them, for their position is their code. Text columns: where they are few."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return [str(scalar(value)) for value in series.dtype.categories]
    if kind != "string":
        return None
    found = sorted({str(value) for value in series.dropna().unique()})
    return found if len(found) <= _MOST_CATEGORIES else None


def _range(series: Any) -> tuple[float | None, float | None]:
    # An infinite bound has no JSON form and would tell nobody anything.
    numbers = series.dropna().to_numpy(dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None)
