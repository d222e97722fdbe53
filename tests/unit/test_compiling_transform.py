"""Transformers as steps: the same bits as scikit-learn's, the same refusals, and reasons where there is no compiled form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import compose, decomposition, feature_selection, impute, linear_model, pipeline, preprocessing
from sklearn.experimental import enable_iterative_imputer  # noqa: F401

from quarterdeck.compiled.batch import Batch
from quarterdeck.compiled.layout import lay_out
from quarterdeck.compiled.program import Program, Take
from quarterdeck.compiling.draft import Column, Draft, NotCompilable
from quarterdeck.compiling.estimate import compile_model
from quarterdeck.compiling.transform import input_columns, transform
from quarterdeck.errors import ModelFailed
from quarterdeck.frames import Columns, columns_of, frame_of, rows_of
from quarterdeck.infer import features_of, frame_from, schema_of
from quarterdeck.schema import Row, Schema
from tools.pipeline_data import EDGES, table

FLOATS = ["distance", "fare", "speed"]
HOLED = ["temperature", "wind"]
MIXED = [*FLOATS, *HOLED, "hour", "seats", "weekend"]
HALVES = ["load", "ratio"]
Make = Callable[[], Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Overflow, unknown categories: what these rows are for.
        warnings.simplefilter("ignore")
        yield


@dataclass
class Both:
    """A fitted transformer and its steps. `steps` gives the block for some rows, `original` what scikit-learn gives."""

    schema: Schema
    columns: Columns
    fitted: Any
    draft: Draft
    found: list[Column]
    batch: Batch

    def original(self, rows: list[Row]) -> Any:
        frame = frame_of(rows, self.columns.columns)
        made = self.fitted.transform(frame if self.columns.container == "frame" else frame.to_numpy())
        return np.asarray(made.toarray() if hasattr(made, "toarray") else made, dtype=np.float64)

    def steps(self, rows: list[Row]) -> Any:
        return self.batch.scores(rows)


def both(transformer: Any, names: list[str], container: str = "frame", task: str = "binary") -> Both:
    """Fit to columns of the catalogue's table; every feature may be null."""
    data = table().frame[names]
    given = data if container == "frame" else data.to_numpy()
    frame = frame_from(given)
    target: Any = table().targets
    transformer.fit(given, target[task])
    features = features_of(frame, list(frame.columns), {})
    draft = Draft(Schema(task="regression", features=features))
    columns = Columns.model_validate({"container": container, "columns": columns_of(frame)})
    found = transform(transformer, input_columns(draft, columns), draft)
    block = draft.block(found)
    steps = [*draft.steps, Take(parts=[(block, column) for column in range(len(found))])]
    # The layout wants as many classes as there are columns.
    width = len(found)
    task = "regression" if width == 1 else "binary" if width == 2 else "multiclass"
    classes = list(range(width)) if width > 1 else []
    schema = Schema.model_validate(
        {"task": task, "classes": classes, "positive": 1 if width == 2 else None, "features": features}
    )
    return Both(schema, columns, transformer, draft, found, Batch(lay_out(Program(steps=steps), schema, {}), {}))


def asked(answer: Callable[[list[Row]], Any], rows: list[Row]) -> Any:
    """The block, or None where the rows are refused."""
    try:
        return answer(rows)
    except (ValueError, TypeError, ModelFailed):
        return None


def edges(schema: Schema, rows: list[Row]) -> list[Row]:
    """Rows of one edge value each."""
    return [
        {**rows[place * 13 % len(rows)], feature.name: value}
        for feature in schema.features
        for place, value in enumerate(EDGES[feature.type])
    ]


def assert_same(made: Both, tolerance: float = 0.0) -> None:
    """Training rows, then every edge value in a row of its own."""
    rows = rows_of(frame_from(table().frame[[column.name for column in made.columns.columns]]))
    for some in [rows, *([row] for row in edges(made.schema, rows))]:
        one, other = asked(made.original, some), asked(made.steps, some)
        assert (one is None) == (other is None), some
        if one is not None:
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)


EXACT: dict[str, tuple[Make, list[str]]] = {
    "standard": (preprocessing.StandardScaler, MIXED),
    "standard-mean-only": (lambda: preprocessing.StandardScaler(with_std=False), MIXED),
    "standard-scale-only": (lambda: preprocessing.StandardScaler(with_mean=False), MIXED),
    "standard-float32": (preprocessing.StandardScaler, HALVES),
    "min-max": (lambda: preprocessing.MinMaxScaler(feature_range=(-1, 1)), MIXED),
    "min-max-clip": (lambda: preprocessing.MinMaxScaler(clip=True), MIXED),
    "min-max-float32": (lambda: preprocessing.MinMaxScaler(clip=True), HALVES),
    "max-abs": (preprocessing.MaxAbsScaler, MIXED),
    "max-abs-float32": (preprocessing.MaxAbsScaler, HALVES),
    "robust": (preprocessing.RobustScaler, MIXED),
    "robust-scale-only": (lambda: preprocessing.RobustScaler(with_centering=False), MIXED),
    "robust-float32": (preprocessing.RobustScaler, HALVES),
    "yeo-johnson": (preprocessing.PowerTransformer, [*FLOATS, *HOLED]),
    "quantile": (lambda: preprocessing.QuantileTransformer(n_quantiles=40), [*FLOATS, *HOLED, "hour"]),
    "binarizer": (lambda: preprocessing.Binarizer(threshold=420.0), FLOATS),
    "binarizer-float32": (lambda: preprocessing.Binarizer(threshold=0.3), HALVES),
    "polynomial": (lambda: preprocessing.PolynomialFeatures(3), FLOATS),
    "polynomial-interactions": (lambda: preprocessing.PolynomialFeatures(3, interaction_only=True, include_bias=False), FLOATS),
    "polynomial-from-2": (lambda: preprocessing.PolynomialFeatures((2, 3), include_bias=False), FLOATS),
    "bins": (lambda: bins(encode="ordinal"), [*FLOATS, "hour"]),
    "bins-one-hot": (lambda: bins(encode="onehot"), FLOATS),
    "bins-dense": (lambda: bins(encode="onehot-dense", strategy="kmeans"), HALVES),
    "imputer-mean": (impute.SimpleImputer, [*FLOATS, *HOLED]),
    "imputer-median-shown": (lambda: impute.SimpleImputer(strategy="median", add_indicator=True), [*HOLED, "hour", "load"]),
    "imputer-most-frequent": (lambda: impute.SimpleImputer(strategy="most_frequent"), [*HOLED, "hour"]),
    "imputer-constant": (lambda: impute.SimpleImputer(strategy="constant", fill_value=-7.5), HOLED),
    "imputer-of-a-number": (lambda: impute.SimpleImputer(missing_values=-999.0, add_indicator=True), ["gauge", "fare"]),
    "imputer-whole": (lambda: impute.SimpleImputer(strategy="most_frequent"), ["hour", "stops"]),
    "indicator": (lambda: impute.MissingIndicator(error_on_new=False), [*HOLED, "fare"]),
    "indicator-strict": (impute.MissingIndicator, [*HOLED, "fare", "speed"]),
    "indicator-all": (lambda: impute.MissingIndicator(features="all"), [*HOLED, "hour"]),
    "indicator-text": (lambda: impute.MissingIndicator(features="all"), ["weather", "carrier", "cabin"]),
    "indicator-none": (lambda: impute.MissingIndicator(features="all", missing_values=None), ["gate", "loyal"]),
    "indicator-sign": (lambda: impute.MissingIndicator(features="all", missing_values="?"), ["crew"]),
    "variance": (lambda: feature_selection.VarianceThreshold(0.3), MIXED),
    "k-best": (lambda: feature_selection.SelectKBest(k=2), [*FLOATS, "hour"]),
    "function-none": (preprocessing.FunctionTransformer, MIXED),
    "function-checked": (lambda: preprocessing.FunctionTransformer(validate=True), FLOATS),
    "function-log1p": (lambda: preprocessing.FunctionTransformer(np.log1p), [*FLOATS, "hour", "stops"]),
    "function-reciprocal": (lambda: preprocessing.FunctionTransformer(np.reciprocal), FLOATS),
    "function-isnan": (lambda: preprocessing.FunctionTransformer(np.isnan), HOLED),
    "union": (
        lambda: pipeline.FeatureUnion(
            [("a", preprocessing.StandardScaler()), ("b", "passthrough"), ("c", "drop")], transformer_weights={"a": 0.3}
        ),
        FLOATS,
    ),
    "sparse-scaled": (
        lambda: pipeline.make_pipeline(
            compose.make_column_transformer((one_hot(), ["carrier"]), remainder="passthrough", sparse_threshold=1.0),
            preprocessing.StandardScaler(with_mean=False),
            preprocessing.RobustScaler(with_centering=False),
        ),
        ["carrier", *FLOATS],
    ),
    "nested": (
        lambda: compose.make_column_transformer(
            (
                compose.make_column_transformer((one_hot(), [0]), ("drop", [1]), remainder=impute.SimpleImputer()),
                ["carrier", "fare", "wind"],
            ),
            (preprocessing.StandardScaler(), slice("distance", "speed")),
            (preprocessing.MinMaxScaler(), compose.make_column_selector(dtype_include="int64")),
        ),
        ["carrier", "distance", "fare", "speed", "wind", "hour", "booked"],
    ),
    "frames": (
        lambda: pipeline.make_pipeline(
            compose.make_column_transformer((_ordinal(), ["carrier"]), remainder="passthrough"),
            compose.make_column_transformer((preprocessing.StandardScaler(), [-1]), remainder="passthrough"),
        ).set_output(transform="pandas"),
        ["carrier", "load", "hour", "fare"],
    ),
}


def bins(**named: Any) -> Any:
    """Five bins."""
    return preprocessing.KBinsDiscretizer(5, quantile_method="averaged_inverted_cdf", random_state=0, **named)


def one_hot(**named: Any) -> Any:
    """An encoder that takes unseen categories."""
    return preprocessing.OneHotEncoder(**{"handle_unknown": "ignore", **named})


def _ordinal(**named: Any) -> Any:
    return preprocessing.OrdinalEncoder(**{"handle_unknown": "use_encoded_value", "unknown_value": -1, **named})


@pytest.mark.parametrize("name", EXACT)
def test_steps_give_the_same_bits(name: str) -> None:
    """Thresholds of trees that come after them see what they were trained on."""
    make, names = EXACT[name]
    assert_same(both(make(), names))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_rows_of_next_to_no_norm_stay(norm: str) -> None:
    """Up to ten times the rounding error a norm is none for scikit-learn, but in a sparse matrix."""
    made = both(preprocessing.Normalizer(norm), ["fare"])
    rows: list[Row] = [{"fare": value} for value in (0.0, 1e-300, -1e-16, 2e-15, 3e-15, 5.0)]
    assert made.steps(rows).tolist() == made.original(rows).tolist()


def test_whole_numbers_stay_whole_behind_an_imputer_that_only_fills() -> None:
    """Their squares would wrap around in the original, and 64 bits of an identifier not fit a float."""
    frame = pd.DataFrame({"customer": [2**60, 2**60 + 1, 5] * 4})
    draft = Draft(Schema(task="regression", features=features_of(frame, (), {})))
    columns = input_columns(draft, Columns(columns=columns_of(frame)))
    fill = impute.SimpleImputer(strategy="constant", missing_values=5, fill_value=7)
    for last, why in ((preprocessing.FunctionTransformer(np.square), "column of int64"), (one_hot(), "beyond 2")):
        with pytest.raises(NotCompilable, match=why):
            transform(pipeline.make_pipeline(fill, last).fit(frame), columns, draft)


def test_truth_values_beside_a_text_that_an_imputer_puts_there() -> None:
    """What is filled in is none of the two that the encoder knows."""
    frame = pd.DataFrame({"loyal": pd.Series([True, False] * 10, dtype=object)})
    encoder = pipeline.make_pipeline(impute.SimpleImputer(strategy="constant", fill_value="none"), one_hot()).fit(frame)
    features = features_of(frame, ["loyal"], {})
    draft = Draft(Schema(task="regression", features=features))
    transform(encoder, input_columns(draft, Columns(columns=columns_of(frame))), draft)
    schema = Schema(task="binary", classes=[0, 1], positive=1, features=features)
    found = Batch(lay_out(Program(steps=draft.steps), schema, {}), {}).scores([{"loyal": None}, {"loyal": True}])
    assert found.tolist() == [[0.0, 0.0], [0.0, 1.0]]


def test_indicators_of_objects_that_are_numbers() -> None:
    """A mean makes floats of them first, so that None is NaN; among text an infinity is nothing to be missed."""
    frame = pd.DataFrame({"size": pd.Series([1.5, None, 2.5] * 5, dtype=object)})
    columns = Columns(columns=columns_of(frame))
    features = features_of(frame, (), {})
    schema = Schema(task="binary", classes=[0, 1], positive=1, features=features)
    draft = Draft(schema)
    made = impute.SimpleImputer(add_indicator=True).fit(frame)
    draft.block(transform(made, input_columns(draft, columns), draft))
    rows: list[Row] = [{"size": None}, {"size": 1.5}]
    found = Batch(lay_out(Program(steps=draft.steps), schema, {}), {}).scores(rows)
    assert found.tolist() == made.transform(frame_of(rows, columns.columns)).tolist() == [[2.0, 1.0], [1.5, 0.0]]


def test_an_encoder_of_no_columns_refuses_what_it_cannot_look_at() -> None:
    """All of its categories are infrequent, and that one column is dropped: an infinity is refused all the same."""
    frame = table().frame[FLOATS]
    sparse = preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.5, drop="first")
    model = pipeline.make_pipeline(
        compose.make_column_transformer((sparse, ["fare"]), remainder="passthrough"), linear_model.LinearRegression()
    ).fit(frame, table().targets["regression"])
    schema = schema_of(model, "target", features_of(frame, (), {}), None, None)
    program, _ = compile_model(model, schema, Columns(columns=columns_of(frame)))
    batch = Batch(lay_out(program, schema, {}), {})
    row = rows_of(frame)[0]
    assert batch.scores([row])[0, 0] == pytest.approx(model.predict(frame[:1])[0], abs=1e-9)
    with pytest.raises(ModelFailed, match="fare"):
        batch.scores([{**row, "fare": float("inf")}])


def test_arrays_of_numbers_have_one_dtype() -> None:
    """A bare array of float32 and whole numbers is float64, and its columns have no names."""
    made = both(preprocessing.StandardScaler(), [*FLOATS, *HOLED], "array")
    rows = rows_of(frame_from(table().frame[[*FLOATS, *HOLED]].to_numpy()))
    np.testing.assert_array_equal(made.steps(rows), made.original(rows))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: decomposition.PCA(2), [*FLOATS, "hour"]),
        (lambda: decomposition.PCA(3, whiten=True), FLOATS),
        (lambda: pipeline.make_pipeline(one_hot(), decomposition.TruncatedSVD(3, random_state=0)), ["carrier", "crew"]),
        (lambda: preprocessing.PowerTransformer(method="box-cox"), ["fare", "distance"]),
        (lambda: preprocessing.QuantileTransformer(n_quantiles=40, output_distribution="normal"), [*FLOATS, "temperature"]),
        (preprocessing.Normalizer, FLOATS),
        (lambda: preprocessing.Normalizer("l1"), FLOATS),
        (lambda: preprocessing.Normalizer("max"), FLOATS),
    ],
)
def test_sums_and_special_functions_are_as_good_as_scikit_learns(make: Make, names: list[str]) -> None:
    """In which order a library adds up, and how scipy inverts a distribution, is their own affair."""
    assert_same(both(make(), names), 1e-11)


ENCODERS: dict[str, Make] = {
    "one-hot": preprocessing.OneHotEncoder,
    "one-hot-ignore": one_hot,
    "one-hot-first": lambda: preprocessing.OneHotEncoder(drop="first", dtype=np.float32),
    "one-hot-if-binary": lambda: one_hot(drop="if_binary"),
    "one-hot-infrequent": lambda: one_hot(min_frequency=0.2, handle_unknown="infrequent_if_exist"),
    "one-hot-most": lambda: one_hot(max_categories=2, drop="first", sparse_output=False),
    "one-hot-warn": lambda: one_hot(min_frequency=60, handle_unknown="warn"),
    "ordinal": preprocessing.OrdinalEncoder,
    "ordinal-codes": lambda: _ordinal(encoded_missing_value=-2),
    "ordinal-nan": lambda: _ordinal(unknown_value=np.nan),
    "ordinal-infrequent": lambda: _ordinal(max_categories=3),
    "target": lambda: preprocessing.TargetEncoder(random_state=0),
    "filled": lambda: pipeline.make_pipeline(impute.SimpleImputer(strategy="most_frequent"), one_hot()),
    "filled-none": lambda: pipeline.make_pipeline(impute.SimpleImputer(strategy="most_frequent", missing_values=None), one_hot()),
    "filled-shown": lambda: pipeline.make_pipeline(
        impute.SimpleImputer(strategy="most_frequent", add_indicator=True), _ordinal(encoded_missing_value=-5)
    ),
    "filled-sign": lambda: pipeline.make_pipeline(
        impute.SimpleImputer(strategy="constant", missing_values="?", fill_value="none"), one_hot()
    ),
    "filled-twice": lambda: pipeline.make_pipeline(
        impute.SimpleImputer(strategy="constant", fill_value="?"),
        impute.SimpleImputer(strategy="most_frequent", missing_values="?"),
        preprocessing.OneHotEncoder(),
    ),
}
CATEGORICAL = ["carrier", "weather", "gate", "crew", "cabin", "zone", "weekend", "loyal", "hour", "stops", "temperature", "load"]


@pytest.mark.parametrize("column", CATEGORICAL)
@pytest.mark.parametrize("name", ENCODERS)
def test_tables_answer_as_encoders_do(name: str, column: str) -> None:
    """Every way to write null, every type, every parameter that decides about what is rare, unknown or dropped."""
    transformer = ENCODERS[name]()
    try:
        transformer.fit(table().frame[[column]], table().targets["binary"])
    except ValueError:
        # Not for this type: scikit-learn fills no booleans, and no text into numbers.
        assert name.startswith("filled")
        return
    assert_same(both(transformer, [column]))


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_target_encoders_of_other_tasks_are_tables_too(task: str) -> None:
    """One column per class, or one."""
    assert_same(both(preprocessing.TargetEncoder(random_state=0), ["carrier", "gate", "hour"], task=task))


def test_columns_of_one_encoder_do_not_mix() -> None:
    """All types at once, from a frame."""
    assert_same(both(one_hot(), CATEGORICAL))


REFUSED: dict[str, tuple[Make, list[str], str]] = {
    "neighbours": (impute.KNNImputer, HOLED, "KNNImputer: it looks for the nearest training rows"),
    "iterative": (lambda: impute.IterativeImputer(max_iter=1), HOLED, "IterativeImputer: it runs a chain of models"),
    "splines": (preprocessing.SplineTransformer, FLOATS, "SplineTransformer: no step"),
    "function": (lambda: preprocessing.FunctionTransformer(np.nan_to_num), FLOATS, "FunctionTransformer: it calls"),
    "function-boolean": (lambda: preprocessing.FunctionTransformer(np.log1p), ["weekend"], "a column of bool"),
    "function-float32": (lambda: preprocessing.FunctionTransformer(np.log1p), HALVES, "a column of float32"),
    "float32": (preprocessing.PowerTransformer, HALVES, "PowerTransformer computes with float32"),
    "float32-and-whole": (preprocessing.StandardScaler, ["load", "seats"], "now one precision, now another"),
    "dates": (preprocessing.OneHotEncoder, ["booked"], "booked is a date and time"),
    "sparse": (
        lambda: pipeline.make_pipeline(preprocessing.OneHotEncoder(), preprocessing.QuantileTransformer(n_quantiles=5)),
        ["crew"],
        "QuantileTransformer gets a sparse matrix",
    ),
    "nothing-missing": (impute.MissingIndicator, FLOATS, "MissingIndicator: nothing was missing"),
    "kernel": (lambda: decomposition.KernelPCA(2), FLOATS, "KernelPCA: it has no compiled form"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_compiled_form_says_why(name: str) -> None:
    """The class or the feature, and the reason."""
    make, names, why = REFUSED[name]
    with pytest.raises(NotCompilable, match=why):
        both(make(), names)


class Doubled(preprocessing.StandardScaler):  # type: ignore[misc]
    """Somebody's own scaler."""


def test_a_subclass_is_not_its_parent() -> None:
    """It may compute anything."""
    with pytest.raises(NotCompilable, match="Doubled: it has no compiled form"):
        both(Doubled(), FLOATS)


def test_whole_numbers_that_the_column_cannot_hold_are_refused() -> None:
    """As numpy refuses them where the original is asked."""
    made = both(preprocessing.StandardScaler(), ["stops", "seats"])
    row: Row = {"stops": 1, "seats": 120}
    assert asked(made.steps, [row]) is not None
    assert asked(made.steps, [{**row, "seats": 40_000}]) is None
    assert asked(made.steps, [{**row, "stops": -(2**31) - 1}]) is None


def test_identifiers_of_64_bits_are_told_apart() -> None:
    """float64 would make one of them: they are looked up as they came."""
    frame = pd.DataFrame({"customer": [2**60, 2**60 + 1, 2**60 + 2] * 4})
    encoder = preprocessing.OrdinalEncoder().fit(frame)
    schema = Schema(task="regression", features=features_of(frame, (), {}))
    draft = Draft(schema)
    draft.block(transform(encoder, input_columns(draft, Columns(columns=columns_of(frame))), draft))
    batch = Batch(lay_out(Program(steps=draft.steps), schema, {}), {})
    assert batch.scores(rows_of(frame)[:3]).tolist() == [[0.0], [1.0], [2.0]]


def test_too_many_categories_are_too_large_a_table() -> None:
    """A node would need gigabytes for it; bounded ones are compiled."""
    frame = pd.DataFrame({"customer": [f"c{number}" for number in range(2_001)]})
    draft = Draft(Schema(task="regression", features=features_of(frame, (), {})))
    columns = input_columns(draft, Columns(columns=columns_of(frame)))
    with pytest.raises(NotCompilable, match="`max_categories` bounds them"):
        transform(one_hot().fit(frame), columns, draft)
    assert len(transform(one_hot(max_categories=1_000).fit(frame), columns, draft)) == 1_000


def test_an_encoder_that_nothing_is_left_of_still_refuses() -> None:
    """Its columns were not selected, but scikit-learn asks it all the same."""
    frame = table().frame[["crew", *FLOATS]]
    target = (frame["fare"] > 90).astype(int)
    model = pipeline.make_pipeline(
        compose.make_column_transformer((preprocessing.OneHotEncoder(sparse_output=False), ["crew"]), remainder="passthrough"),
        feature_selection.SelectKBest(k=1),
        linear_model.LogisticRegression(max_iter=1000),
    ).fit(frame, target)
    schema = schema_of(model, "target", features_of(frame, (), {}), None, None)
    program, _ = compile_model(model, schema, Columns(columns=columns_of(frame)))
    batch = Batch(lay_out(program, schema, {}), {})
    rows = rows_of(frame)
    np.testing.assert_allclose(batch.scores(rows), model.predict_proba(frame), rtol=0, atol=1e-12)
    with pytest.raises(ModelFailed, match="crew"):
        batch.scores([{**rows[0], "crew": "unseen"}])


def test_category_columns_take_unknown_values_for_null() -> None:
    """As pandas does where the original is asked; numbers among them are read as numbers."""
    made = both(preprocessing.FunctionTransformer(), ["zone"])
    assert made.steps([{"zone": 5}]).tolist() == [[5.0]]
    assert np.isnan(made.steps([{"zone": 4}])).all()


def test_text_is_not_read_as_a_number() -> None:
    """scikit-learn would parse it; no step does."""
    frame = pd.DataFrame({"size": ["1", "2", "3"] * 10})
    model = linear_model.LinearRegression().fit(frame.astype(float), np.arange(30.0))
    schema = Schema(task="regression", features=features_of(frame, (), {}))
    with pytest.raises(NotCompilable, match="size is text"):
        compile_model(model, schema, Columns(columns=columns_of(frame)))
