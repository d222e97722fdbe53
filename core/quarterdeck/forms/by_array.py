"""A scikit-learn pipeline fed with arrays instead of a pandas frame: the same fitted steps, without what a frame costs.

Of a few rows' time nearly all goes into taking a frame apart and checking it anew in every step. The steps take arrays as well;
LightGBM's wrapper works out the same parameters with each call. What is found here answers only where it answered exactly as the
pipeline does, bit by bit, when the package was loaded; for everything else there is the pipeline itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quarterdeck.frames import Columns, Framing, plain_array
from quarterdeck.schema import Row, Scalar, Schema

Values = Mapping[str, Sequence[Scalar]]

_NUMBERS = {
    "KBinsDiscretizer", "MaxAbsScaler", "MinMaxScaler", "PowerTransformer", "QuantileTransformer", "RobustScaler",
    "StandardScaler",
}  # fmt: skip
"""Make one array of floats of all their columns, whatever numbers these are."""
_BY_COLUMN = {"OneHotEncoder", "OrdinalEncoder", "SimpleImputer"}
"""Look at each column's own type: an array says the same where all are of one."""
_MOST_TRIALS = 64
_UNSEEN = "\N{REPLACEMENT CHARACTER}"


class _Part(NamedTuple):
    """One transformer of a ColumnTransformer with its columns; `takes` says of which kinds of numpy an array may be mixed.

    Attributes:
        transformer: as fitted; where it `takes` arrays, a copy that asks for no column names.
        names: its columns.
        selection: the same as the ColumnTransformer selects them from a frame.
        takes: None: frames only.
    """

    transformer: Any
    names: list[str]
    selection: Any
    takes: str | None


class ByArray:
    """A pipeline that begins with a ColumnTransformer. Answers like the pipeline, or raises."""

    def __init__(self, first: Any, steps: Sequence[Any], last: Any, columns: Columns) -> None:
        self._first, self._steps, self._last = first, steps, last
        self._framing = Framing(columns.columns)
        self._arrays = {column.name: plain_array(column) for column in columns.columns}
        plain = {name for name, array in self._arrays.items() if array is not None}
        self._parts = [_part(one, plain) for one in _fitted_parts(first, columns)]
        read = {name for part in self._parts for name in part.names}
        self._unread = Framing([column for column in columns.columns if column.name not in read])
        self._quick: Callable[[Any], Any] | None = None

    def ready(self, values: Values) -> Any:
        """What the last step is asked with.

        Args:
            values: by column name, all of one length, at least one: JSON scalars, None for null.
        """
        count = len(next(iter(values.values())))
        frame: Any = None
        found = []
        for part in self._parts:
            given = self._array(part, values, count)
            if given is None:
                frame = self._framing.frame(values) if frame is None else frame
                given = _selected(frame, part.selection)
            found.append(part.transformer.transform(given))
        if frame is None:
            # A frame takes no value that its column cannot hold, whether anything reads that column or not.
            self._unread.arrays(values)
        data = self._first._hstack(found, n_samples=count)
        for step in self._steps:
            data = step.transform(data)
        return data

    def ask(self, method: str, data: Any) -> Any:
        """What the last step answers; `data` from `ready`."""
        if self._quick is not None and method == "predict_proba" and data.dtype == np.float64:
            return self._quick(data)
        return getattr(self._last, method)(data)

    def hurry(self, values: Values) -> None:
        """Find out once what LightGBM's wrapper asks its Booster with."""
        if _kind(self._last) == ("lightgbm", "LGBMClassifier"):
            self._quick = _booster_of(self._last, self.ready(values))

    def _array(self, part: _Part, values: Values, count: int) -> Any:
        """The columns of a part as one array; None where that would not say what the frame says."""
        if part.takes is None:
            return None
        arrays = [self._arrays[name](values[name]) for name in part.names]  # type: ignore[misc]
        kinds = {array.dtype for array in arrays}
        if len(kinds) > 1 and not all(kind.kind in part.takes for kind in kinds):
            return None
        if any(kind.kind not in "fiuO" for kind in kinds):
            return None
        # By column in memory, as pandas gives it: what sums up later does it in the same order.
        block = np.empty((len(arrays), count), dtype=np.result_type(*kinds))
        for place, array in enumerate(arrays):
            block[place] = array
        return block.T


def find(estimator: Any, columns: Columns) -> ByArray | None:
    """What answers for a pipeline; None where it is none that begins with a ColumnTransformer of scikit-learn's own."""
    if columns.container != "frame":
        return None
    try:
        first, *between, last = list(_steps(estimator))
        if _kind(first) != ("sklearn", "ColumnTransformer") or first.transformer_weights or any(map(_dressed, (first, *between))):
            return None
        return ByArray(first, between, last, columns)
    # Another release of scikit-learn may keep its parts elsewhere: then the pipeline answers, as slowly as ever.
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def trials(schema: Schema, rows: Sequence[Row]) -> list[Row]:
    """Rows to compare answers at: those given, and the first with a null or an unseen text in each place that takes one."""
    found = list(rows)
    for feature in schema.features:
        if feature.nullable:
            found.append({**rows[0], feature.name: None})
        if feature.type == "string":
            found.append({**rows[0], feature.name: _UNSEEN})
    return found[:_MOST_TRIALS]


def _steps(estimator: Any) -> Iterator[Any]:
    """The steps of a pipeline, those of pipelines within it included."""
    if _kind(estimator) != ("sklearn", "Pipeline"):
        yield estimator
        return
    for _, step in estimator.steps:
        if step is not None and step != "passthrough":
            yield from _steps(step)


def _fitted_parts(first: Any, columns: Columns) -> Iterator[tuple[Any, list[str], Any]]:
    """Transformer, names of its columns, and the selection of a ColumnTransformer's own."""
    names = list(first.feature_names_in_)
    if names != [column.name for column in columns.columns]:
        raise ValueError("fitted to other columns")
    selections = first._iter(fitted=True, column_as_labels=True, skip_drop=True, skip_empty_columns=True)
    for _, transformer, selection, _ in selections:
        yield transformer, [selection] if isinstance(selection, str) else list(selection), selection


def _part(one: tuple[Any, list[str], Any], plain: set[str]) -> _Part:
    transformer, names, selection = one
    takes = None if isinstance(selection, str) or not plain.issuperset(names) else _takes(transformer)
    return _Part(transformer if takes is None else _nameless(transformer), names, selection, takes)


def _takes(transformer: Any) -> str | None:
    """Which kinds of arrays may be mixed for it; None: it must be given a frame."""
    if _dressed(transformer):
        return None
    origin, name = _kind(transformer)
    if (origin, name) == ("sklearn", "Pipeline"):
        steps = [step for _, step in transformer.steps]
        # What stands behind the first has been given arrays ever since.
        return None if any(map(_dressed, steps)) or not steps else _takes(steps[0])
    # The columns as they are.
    if name == "FunctionTransformer" and transformer.func is None and not transformer.validate:
        return "fiu"
    if origin != "sklearn":
        return None
    return "fiu" if name in _NUMBERS else "" if name in _BY_COLUMN else None


def _nameless(transformer: Any) -> Any:
    """A copy that was, as far as it knows, fitted to an array."""
    found = copy.copy(transformer)
    if _kind(found)[1] == "Pipeline":
        (name, step), *others = found.steps
        found.steps = [(name, _nameless(step)), *others]
    else:
        found.__dict__.pop("feature_names_in_", None)
    return found


def _dressed(step: Any) -> bool:
    """Whether a step was told to answer frames."""
    return bool(getattr(step, "_sklearn_output_config", None))


def _kind(step: Any) -> tuple[str, str]:
    """The library and the name of its very class: a class of somebody's own may do anything."""
    return type(step).__module__.partition(".")[0], type(step).__name__


def _selected(frame: Any, selection: Any) -> Any:
    return frame[selection] if isinstance(selection, str) else frame[list(selection)]


class _Overheard:
    """Stands in for a Booster, and keeps what it is asked with."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self.words: dict[str, Any] = {}

    def predict(self, data: Any, **words: Any) -> Any:
        self.words = words
        return self._booster.predict(data, **words)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._booster, name)


def _booster_of(model: Any, data: Any) -> Callable[[Any], Any] | None:
    """What asks the Booster of a LightGBM classifier as the classifier does."""
    if callable(model.objective_):
        return None
    copied, overheard = copy.copy(model), _Overheard(model.booster_)
    copied._Booster = overheard
    copied.predict_proba(data)
    booster, words = model.booster_, overheard.words

    def scores(given: Any) -> Any:
        found = booster.predict(given, **words)
        return found if found.ndim > 1 else np.vstack((1.0 - found, found)).transpose()

    return scores if words else None
