"""The forms: what is loaded answers as the original does, and nothing that was not allowed is loaded."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.preprocessing import FunctionTransformer, SplineTransformer

from quarterdeck import forms, package_files
from quarterdeck.build import package
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.forms import skops_zip
from quarterdeck.frames import columns_of, frame_of, rows_of
from quarterdeck.model import Model
from quarterdeck.schema import Row, Schema, Task
from tests.models import TARGETS, Kind, lightgbm_model, model_package, sklearn_model, table, version_encoding_model

ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=64)
ROWS = st.fixed_dictionaries(
    {
        "distance": ANY_FLOAT,
        "hour": st.integers(-(2**53), 2**53),
        "holiday": st.booleans(),
        "carrier": st.none() | st.sampled_from(["AA", "B6", "DL", "UA", "aa", "", "quarterdeck-unseen"]),
        "wind": st.none() | ANY_FLOAT,
    }
)


FEATURES = ["distance", "hour", "holiday", "carrier", "wind"]


def _number(value: Any, codes: dict[str, float]) -> float:
    return codes.get(value, np.nan) if isinstance(value, str) else float(value)


@cache
def text_model(task: Task) -> Model:
    """The tiny model of one task, as it is served."""
    with tempfile.TemporaryDirectory() as folder:
        return package_files.prove(model_package(task, "compiled").write(Path(folder) / "p"), allow_code=False)


@pytest.mark.parametrize("task", TARGETS)
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_compiled_lightgbm_answers_as_lightgbm_does(task: Task, rows: list[Row]) -> None:
    """Any row, with nulls, booleans and unseen categories, gets the very numbers that LightGBM's own predict gives."""
    model = lightgbm_model(task).model
    codes = {name: float(code) for code, name in enumerate(model.booster_.pandas_categorical[0])}
    matrix = np.array([[np.nan if row[name] is None else _number(row[name], codes) for name in FEATURES] for row in rows])
    expected = model.booster_.predict(matrix, num_threads=1)
    answers = text_model(task).predict(rows)
    if task == "regression":
        assert [answer.prediction for answer in answers] == expected.tolist()
    elif task == "binary":
        assert [answer.scores[1] for answer in answers] == expected.tolist()
    else:
        assert [answer.scores for answer in answers] == expected.tolist()


@pytest.mark.parametrize("form", ["compiled", "skops"])
@pytest.mark.parametrize("task", TARGETS)
def test_served_form_answers_as_the_original_on_unseen_data(task: Task, form: Kind, tmp_path: Path) -> None:
    """Labels are identical and numbers equal to 1e-9, asked together and one by one."""
    trained = lightgbm_model(task) if form == "compiled" else sklearn_model(task)
    model = package_files.prove(trained.package(form=form).write(tmp_path / "p"), allow_code=False)
    X = trained.validation[0]
    together = model.predict(rows_of(X))
    single = [model.predict([row])[0] for row in rows_of(X)[:20]]
    expected = trained.model.predict(X)
    if task == "regression":
        assert [answer.prediction for answer in together] == pytest.approx(expected.tolist(), abs=1e-9)
    else:
        assert [answer.prediction for answer in together] == expected.tolist()
        assert np.abs(np.array([answer.scores for answer in together]) - trained.model.predict_proba(X)).max() <= 1e-9
    for one, other in zip(single, together, strict=False):
        assert [one.prediction, *one.scores] == pytest.approx([other.prediction, *other.scores], abs=1e-9)


@pytest.mark.parametrize("form", ["compiled", "skops"])
@pytest.mark.parametrize("version", [1, 2, 1000])
def test_version_encoding_models_answer_their_version(version: int, form: Kind, tmp_path: Path) -> None:
    """The models that load tests tell versions apart by do so exactly."""
    folder = version_encoding_model(version, form).write(tmp_path / "p")
    model = package_files.prove(folder, allow_code=False)
    assert [answer.prediction for answer in model.predict([{"number": 3.0}, {"number": -1e300}])] == [version, version]


def test_integer_and_boolean_categories_are_looked_up_by_value(tmp_path: Path) -> None:
    """Categories need not be text: numbers and booleans are found under their own type's values."""
    random = np.random.default_rng(0)
    X = pd.DataFrame({"zone": pd.Categorical(random.choice([10, 20, 30], 300)), "flag": pd.Categorical(random.random(300) < 0.5)})
    y = pd.Series((X.zone == 20).astype(float) * 5 + (X.flag == True).astype(float), name="cost")  # noqa: E712
    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, n_jobs=1).fit(X, y)
    built = package(model, X, y, name="zones")
    assert [feature.type for feature in built.manifest.data_schema.features] == ["int", "boolean"]
    served = package_files.prove(built.write(tmp_path / "p"), allow_code=False)
    assert [answer.prediction for answer in served.predict(rows_of(X[:50]))] == list(model.predict(X[:50]))


@pytest.mark.parametrize(
    ("row", "feature"),
    [({"distance": 1.0}, "hour"), ({"distance": "far"}, "distance"), ({"distance": 10**400}, "distance")],
    ids=["absent", "text", "too large"],
)
def test_rows_that_cannot_be_encoded_name_the_feature(row: Row, feature: str) -> None:
    """A row that got past validation by mistake fails as one request, naming the feature and not the value."""
    with pytest.raises(ModelFailed, match=feature) as failed:
        text_model("binary").predict([row])
    assert "far" not in str(failed.value)


def test_no_rows_no_answers() -> None:
    """An empty batch is answered with nothing."""
    assert text_model("binary").predict([]) == []


class Foreign(BaseEstimator):  # type: ignore[misc]
    """An estimator that nobody has on a list."""


def doubled(values: Any) -> Any:
    """A function that nobody has on a list."""
    return values * 2


@pytest.mark.parametrize(
    ("transformer", "last"),
    [(IterativeImputer(max_iter=1), np.nan), (SplineTransformer(n_knots=3), 1.0)],
    ids=["iterative imputer", "splines"],
)
def test_skops_knows_what_has_no_compiled_form(transformer: Any, last: float) -> None:
    """What is not compiled is served as data all the same: nobody has to allow code for it."""
    X = np.array([[1.0, 2.0], [2.0, 5.0], [4.0, 3.0], [8.0, last]])
    fitted = transformer.fit(X)
    assert np.array_equal(skops_zip.loads(skops_zip.dumps(fitted)).transform(X), fitted.transform(X))


@pytest.mark.parametrize(
    ("foreign", "name"), [(Foreign(), "Foreign"), (FunctionTransformer(doubled), "doubled")], ids=["class", "function"]
)
def test_skops_refuses_types_that_are_not_on_our_list(foreign: Any, name: str) -> None:
    """The refusal names the type; nothing of the archive is constructed."""
    with pytest.raises(PackageRefused, match=name) as refused:
        skops_zip.loads(skops_zip.canonical(skops.io.dumps(foreign)))
    assert refused.value.code == "untrusted-types"


def test_skops_refuses_an_archive_that_calls_the_system() -> None:
    """An archive whose nodes were edited by hand to reach `os.system` is refused by that name."""
    document = {
        "__class__": "system", "__module__": "posix", "__loader__": "FunctionNode", "__id__": 1, "content": "", "protocol": 2,
        "_skops_version": "0.16.0",
    }  # fmt: skip
    archive = skops_zip._zipped({"schema.json": json.dumps(document).encode()})
    with pytest.raises(PackageRefused, match=r"posix\.system") as refused:
        skops_zip.loads(archive)
    assert refused.value.code == "untrusted-types"


def compressed() -> bytes:
    """A skops archive whose members are compressed."""
    return bytes(skops.io.dumps(sklearn_model("binary").model, compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("data", [b"", b"no zip", skops_zip._zipped({"other.json": b"{}"}), compressed()])
def test_skops_takes_plain_archives_only(data: bytes) -> None:
    """Compressed members could be a thousand times larger than the manifest says: refused, like other files."""
    with pytest.raises(PackageRefused) as refused:
        skops_zip.loads(data)
    assert refused.value.code == "load-failed"


def test_canonical_archives_have_no_traces_of_the_process() -> None:
    """Ids, file names and times are gone, twice canonical is once canonical, and the model still loads."""
    model = sklearn_model("multiclass").model
    raw = skops.io.dumps(model)
    once = skops_zip.canonical(raw)
    with zipfile.ZipFile(io.BytesIO(once)) as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert "0.npy" in archive.namelist()
        ids = {
            int(word)
            for word in archive.read("schema.json").decode().split('"__id__":')[1:]
            for word in [word.split("}")[0].split(",")[0]]
        }
    assert max(ids) < 10_000
    assert skops_zip.canonical(once) == once
    X = sklearn_model("multiclass").X
    assert np.array_equal(skops_zip.loads(once).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float64", [1.5, None]),
        ("float32", [1.5, None]),
        ("int64", [1, 2]),
        ("int8", [1, 2]),
        ("Int64", [1, None]),
        ("bool", [True, False]),
        ("boolean", [True, None]),
        ("str", ["a", None]),
        ("string", ["a", None]),
        ("object", ["a", None]),
        ("category", ["b", None]),
        ("datetime64[us]", [pd.Timestamp("2013-01-01T05:15"), None]),
        ("datetime64[ns, UTC]", [pd.Timestamp("2013-01-01T05:15", tz="UTC"), None]),
    ],
)
def test_rows_become_frames_of_the_training_dtypes(dtype: str, values: list[Any]) -> None:
    """Frame to rows to frame gives the very same frame, whatever the dtype."""
    frame = pd.DataFrame({"column": pd.Series(values, dtype=dtype)})
    rows = rows_of(frame)
    assert json.loads(json.dumps(rows)) == rows
    pd.testing.assert_frame_equal(frame_of(rows, columns_of(frame)), frame)


def test_columns_without_a_json_form_are_named() -> None:
    """A column of lists cannot be asked for by JSON scalars: refused when the package is built."""
    with pytest.raises(Exception, match="Column tags holds mixed values"):
        columns_of(pd.DataFrame({"tags": [["a"], ["b"]]}))


class Garbage:
    """A regressor whose answers are set by hand."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, data: Any) -> Any:
        """Whatever was set."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([1.0], "shape"),
        ([[1.0, 2.0], [3.0, 4.0]], "shape"),
        ([float("nan"), 1.0], "not finite"),
        ([float("inf"), 1.0], "not finite"),
        (["a", "b"], "not numbers"),
        (None, "shape|not numbers|not finite"),
        (ValueError("secret value 42"), "ValueError"),
    ],
    ids=str,
)
def test_garbage_from_an_estimator_is_a_failed_model(answer: Any, words: str) -> None:
    """Wrong shapes, NaN, text and exceptions are named without repeating what the model said."""
    from quarterdeck.forms.python_forms import EstimatorModel
    from quarterdeck.frames import Columns

    frame = table()[["distance"]][:2]
    schema = Schema.model_validate({"task": "regression", "features": [{"name": "distance", "type": "float"}]})
    model = EstimatorModel(schema, Columns(columns=columns_of(frame)), Garbage(answer))
    with pytest.raises(ModelFailed, match=words) as failed:
        model.predict(rows_of(frame))
    assert "secret" not in str(failed.value)


def test_only_compiled_models_run_in_the_serving_process() -> None:
    """Forms that need a Python environment get a process of their own."""
    assert [forms.in_process(form) for form in ("compiled", "skops", "joblib", "python")] == [True, False, False, False]
