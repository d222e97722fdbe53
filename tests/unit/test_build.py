"""Building: what is read off the data, the proof against the original, and one digest for one input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, LinearSVC

import quarterdeck
from quarterdeck import package_files
from quarterdeck.baseline import numbers
from quarterdeck.build import from_files, package
from quarterdeck.errors import InvalidInput, PackageRefused, QuarterdeckError
from quarterdeck.golden import UNSEEN, spread
from quarterdeck.manifest import Manifest
from quarterdeck.schema import Row, Task
from quarterdeck.sources import plain
from tests.models import FLIGHTS, TARGETS, Kind, flight_model, lightgbm_model, model_package, sklearn_model, table
from tests.support import ROOT

FORMS: list[Kind] = ["compiled", "skops"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", TARGETS)
def test_packages_describe_their_data(task: Task, form: Kind) -> None:
    """Names, types, categories, ranges and missing values are read off the training and validation data."""
    manifest = model_package(task, form).manifest
    schema = manifest.data_schema
    assert (schema.task, schema.target, manifest.form) == (task, TARGETS[task], form)
    assert {feature.name: feature.type for feature in schema.features} == {
        "distance": "float", "hour": "int", "holiday": "boolean", "carrier": "string", "wind": "float",
    }  # fmt: skip
    assert {feature.name for feature in schema.features if feature.nullable} == {"carrier", "wind"}
    by_name = {feature.name: feature for feature in schema.features}
    assert by_name["carrier"].categories == ["AA", "B6", "DL", "UA"]
    assert (by_name["hour"].minimum, by_name["hour"].maximum) == (0.0, 23.0)
    assert by_name["holiday"].minimum is None
    assert manifest.training is not None
    assert manifest.validation is not None
    assert (manifest.training.rows, manifest.validation.rows) == (200, 200)
    assert manifest.training.digest != manifest.validation.digest


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("binary", {"accuracy", "brier", "log_loss", "auc"}),
        ("multiclass", {"accuracy", "brier", "log_loss"}),
        ("regression", {"mae", "rmse", "r2"}),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_metrics_come_from_validation_data_and_say_so(task: Task, names: set[str], form: Kind) -> None:
    """Each task has its metrics; the name's first word is the data they were measured on."""
    trained = lightgbm_model(task) if form == "compiled" else sklearn_model(task)
    assert set(trained.package(form=form).manifest.metrics) == {f"validation_{name}" for name in names}
    alone = package(trained.model, trained.X, trained.y, name="alone").manifest
    assert set(alone.metrics) == {f"training_{name}" for name in names}
    assert alone.validation is None


def test_metrics_are_right() -> None:
    """Accuracy, Brier score and errors equal what the definitions give."""
    trained = sklearn_model("binary")
    X, y = trained.validation
    scores, found = trained.model.predict_proba(X)[:, 1], trained.package().manifest.metrics
    assert found["validation_brier"] == pytest.approx(float(np.mean((scores - y.to_numpy()) ** 2)))
    assert found["validation_accuracy"] == pytest.approx(float(np.mean((scores > 0.5) == y.to_numpy())))
    trained = sklearn_model("regression")
    X, y = trained.validation
    found = trained.package(metrics={"folds_mae": 1.5}).manifest.metrics
    assert found["validation_mae"] == pytest.approx(float(np.mean(np.abs(trained.model.predict(X) - y.to_numpy()))))
    assert found["folds_mae"] == 1.5


@pytest.mark.parametrize("form", FORMS)
def test_golden_rows_hold_the_edges(form: Kind) -> None:
    """About twenty rows: ordinary ones, nulls where they are legal, an unseen category, both ends of the ranges."""
    golden = model_package("multiclass", form).manifest.golden
    assert 18 <= len(golden) <= 24
    assert any(row.row["wind"] is None and row.row["carrier"] is None for row in golden)
    assert any(row.row["carrier"] == UNSEEN for row in golden)
    assert any(row.row["hour"] == 23 for row in golden)
    assert any(row.row["hour"] == 0 for row in golden)


def test_models_that_refuse_unseen_categories_have_no_such_golden_row() -> None:
    """An edge row on which the original raises cannot be reproduced, so it is left out."""
    from sklearn.preprocessing import OneHotEncoder

    X, y = table()[["carrier"]].fillna("none"), table().late
    built = package(make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression()).fit(X, y), X, y, name="strict")
    assert UNSEEN not in {row.row["carrier"] for row in built.manifest.golden}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", TARGETS)
def test_the_proof_is_kept(task: Task, form: Kind) -> None:
    """The served form was compared with the original on all validation rows."""
    proof = model_package(task, form).manifest.proof
    assert proof is not None
    assert (proof.rows, proof.labels_different) == (200, 0)
    assert proof.largest_difference <= proof.tolerance == 1e-9


def test_data_of_other_dtypes_than_at_training_is_refused_by_the_proof() -> None:
    """Category codes of another data frame would be other categories: the proof notices, and nothing is built."""
    trained = lightgbm_model("binary")
    X = trained.X.assign(carrier=trained.X.carrier.astype("category").cat.codes.astype("float64"))
    with pytest.raises(QuarterdeckError):
        package(trained.model, X, trained.y, name="codes")


class Moody(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that answers something else each time."""

    asked = 0

    def fit(self, X: Any, y: Any) -> Moody:
        """Remember the classes."""
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Scores that grow with every call."""
        Moody.asked += 1
        return np.tile([1 - Moody.asked / 100, Moody.asked / 100], (len(X), 1))

    def predict(self, X: Any) -> Any:
        """The first class."""
        return np.repeat(self.classes_[:1], len(X))


def test_a_model_that_is_not_reproducible_is_not_built() -> None:
    """A model whose answers change from call to call cannot be proven, and is refused with the difference."""
    X, y = table()[["distance"]], table().late
    with pytest.raises(PackageRefused, match="answers differently") as refused:
        package(Moody().fit(X, y), X, y, name="moody", trust="code")
    assert refused.value.code == "golden-mismatch"


@pytest.mark.parametrize(
    ("form", "trust", "code", "words"),
    [
        ("auto", None, "untrusted-types", "halved"),
        ("skops", "code", "untrusted-types", "halved"),
        ("joblib", None, "trust-required", "trust code"),
        ("compiled", None, "invalid-input", "FunctionTransformer: it calls a function"),
    ],
)
def test_code_is_not_stored_unasked(form: Any, trust: Any, code: str, words: str) -> None:
    """What skops does not know is refused by name, with the hint that joblib needs trust."""
    X, y = table()[["distance", "hour"]], table().minutes
    model = make_pipeline(FunctionTransformer(halved), LinearRegression()).fit(X, y)
    with pytest.raises(QuarterdeckError, match=words) as refused:
        package(model, X, y, name="halved", form=form, trust=trust)
    assert refused.value.code == code


@pytest.mark.parametrize("form", ["auto", "joblib"])
def test_trusted_code_is_stored_as_joblib_with_its_source(form: Any) -> None:
    """With trust the model becomes joblib, and the source of its functions can be read in the package."""
    X, y = table()[["distance", "hour"]], table().minutes
    model = make_pipeline(FunctionTransformer(halved), LinearRegression()).fit(X, y)
    built = package(model, X, y, name="halved", form=form, trust="code")
    assert (built.manifest.form, built.manifest.trust) == ("joblib", "code")
    assert "return values / 2" in built.files["source.txt"].decode()


def halved(values: Any) -> Any:
    """A function in a pipeline: its source is kept for reading."""
    return values / 2


def test_labels_that_do_not_follow_from_scores_are_asked_for() -> None:
    """An SVC's probabilities may contradict its labels; the package keeps its labels."""
    X, y = table()[["distance", "hour"]], table().late
    model = RandomForestClassifier(3, random_state=0).fit(X, y)
    assert json.loads(package(model, X, y, name="forest", form="skops").files["columns.json"])["labels"] == "scores"
    contrary = Contrary().fit(X, y)
    built = package(contrary, X, y, name="contrary", trust="code")
    assert json.loads(built.files["columns.json"])["labels"] == "predict"
    assert {row.expected.prediction for row in built.manifest.golden} == {False}


class Contrary(Moody):
    """A classifier whose label is always the less likely class."""

    def predict_proba(self, X: Any) -> Any:
        """The second class is likely."""
        return np.tile([0.25, 0.75], (len(X), 1))


def arrays() -> tuple[Any, Any]:
    """Two columns and a target as bare arrays."""
    frame = table()
    return frame[["distance", "hour"]].to_numpy(), frame.late.to_numpy()


@pytest.mark.parametrize("kind", [LogisticRegression, lightgbm.LGBMClassifier])
def test_models_of_bare_arrays_get_column_names(kind: Any, tmp_path: Path) -> None:
    """Without a data frame the columns are numbered, and the model is served without names."""
    X, y = arrays()
    options = {"verbose": -1, "n_estimators": 2} if kind is lightgbm.LGBMClassifier else {"max_iter": 500}
    model = kind(**options).fit(X, y)
    built = package(model, X, y, name="arrays")
    assert built.manifest.data_schema.names == ["column_0", "column_1"]
    served = package_files.prove(built.write(tmp_path / "p"), allow_code=False)
    row: Row = {"column_0": float(X[0, 0]), "column_1": float(X[0, 1])}
    assert served.predict([row])[0].scores == pytest.approx(model.predict_proba(X[:1])[0].tolist(), abs=1e-9)


@pytest.mark.parametrize(
    ("objective", "classes", "expected"),
    [("binary", ["no", "yes"], ["no", "yes"]), ("binary", None, [0, 1]), ("multiclass", ["a", "b", "c"], ["a", "b", "c"]),
     ("regression", None, []), ("poisson", None, [])],
)  # fmt: skip
def test_bare_boosters_are_packages_too(objective: str, classes: list[Any] | None, expected: list[Any]) -> None:
    """A Booster knows its task by its objective, and its classes are named or numbered."""
    frame = table()
    X = frame[["distance", "hour", "wind"]]
    codes = frame.verdict.map({"early": 0, "fine": 1, "late": 2}) if objective == "multiclass" else frame.late.astype(int)
    options = {"objective": objective, "verbose": -1, "num_leaves": 5, **({"num_class": 3} if objective == "multiclass" else {})}
    booster = lightgbm.train(options, lightgbm.Dataset(X, codes), num_boost_round=3)
    y = [expected[code] for code in codes] if expected else codes
    manifest = package(booster, X, y, name="booster", classes=classes).manifest
    assert manifest.data_schema.classes == expected
    assert manifest.hyperparameters["objective"] == objective


def test_early_stopping_is_kept() -> None:
    """Only the trees up to the best iteration are stored, as the estimator itself uses only those."""
    trained = lightgbm_model("binary")
    model = lightgbm.LGBMClassifier(n_estimators=200, num_leaves=31, verbose=-1, n_jobs=1, random_state=0)
    model.fit(
        trained.X,
        trained.y,
        eval_X=trained.validation[0],
        eval_y=trained.validation[1],
        callbacks=[lightgbm.early_stopping(2, verbose=False)],
    )
    built = package(model, trained.X, trained.y, name="stopped", validation=trained.validation)
    assert built.files["trees-0.txt"].decode().count("\nTree=") == model.best_iteration_ < 200


def test_datetimes_and_texts_go_through_a_package(tmp_path: Path) -> None:
    """Datetime columns are ISO 8601 strings at the door and datetimes for the pipeline."""
    X, y = pd.read_parquet(FLIGHTS)[["scheduled", "tailnum", "distance"]], pd.read_parquet(FLIGHTS)["late"]
    model = make_pipeline(FunctionTransformer(hour_of), LogisticRegression(max_iter=500)).fit(X, y)
    built = package(model, X, y, name="times", trust="code")
    assert {feature.name: feature.type for feature in built.manifest.data_schema.features} == {
        "scheduled": "datetime", "tailnum": "string", "distance": "int",
    }  # fmt: skip
    assert str(built.manifest.golden[0].row["scheduled"]).startswith("2013-01-01T")
    assert package_files.test_package(built.write(tmp_path / "p"), allow_code=True).passed


def hour_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The hour and the distance; needs real datetimes."""
    return pd.DataFrame({"hour": frame.scheduled.dt.hour, "distance": frame.distance})


@pytest.mark.parametrize("form", FORMS)
def test_real_flights_are_packaged(form: Kind, tmp_path: Path) -> None:
    """A model of real data builds, proves itself and keeps a usable Brier score."""
    built = flight_model(form).package("late-flights", form=form)
    assert 0.1 < built.manifest.metrics["validation_brier"] < 0.21
    assert package_files.test_package(built.write(tmp_path / "p"), allow_code=False).passed


BUILD = """
import sys
from tests.models import lightgbm_model, model_package, sklearn_model, flight_model
from quarterdeck.build import package
for task in ("binary", "multiclass", "regression"):
    for form in ("compiled", "skops"):
        print(task, form, model_package(task, form, include_data=True).manifest.digest)
    trained = sklearn_model(task)
    print(task, "joblib", package(trained.model, trained.X, trained.y, name="m", form="joblib", trust="code").manifest.digest)
print(flight_model("skops").package("late").manifest.digest)
"""


def test_the_same_input_gives_the_same_digest_in_every_process() -> None:
    """Three tasks in three forms, built by two processes with different hash seeds: one digest each."""
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILD],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )
        for seed in ("1", "2")
    ]
    found = [builder.communicate()[0].splitlines() for builder in builders]
    assert len(found[0]) == 10
    assert found[0] == found[1]
    here = model_package("binary", "skops", include_data=True).manifest.digest
    assert found[0][1] == f"binary skops {here}"


def test_no_times_paths_or_hosts_get_into_a_package() -> None:
    """Nothing of the machine or the moment is in the bytes."""
    built = model_package("binary", "skops")
    everything = built.manifest.canonical() + b"".join(built.files.values())
    for trace in (str(ROOT), str(Path.home()) + "/", os.uname().nodename):
        assert trace.encode() not in everything


def test_words_and_data_are_carried() -> None:
    """Card, run, parent, commit, producer, search space, variables and descriptions are in the manifest; data in files."""
    parent = "sha256:" + "a" * 64
    built = sklearn_model("binary").package(
        "words", description="One line", card="# Card", run="run-7", parent=parent, commit="abc", producer="nightly",
        source="table",
        search_space={"C": [0.1, 1.0, np.float64(10)]}, variables=["TOKEN"], feature_descriptions={"hour": "Local hour"},
        positive=False, include_data=True, nullable=["hour"], scenarios=[{"name": "empty", "rows": []}],
    )  # fmt: skip
    manifest = Manifest.parse(built.manifest.canonical())
    assert (manifest.description, manifest.card, manifest.run, manifest.parent) == ("One line", "# Card", "run-7", parent)
    assert (manifest.commit, manifest.producer, manifest.environment.variables) == ("abc", "nightly", ["TOKEN"])
    assert manifest.search_space == {"C": [0.1, 1.0, 10.0]}
    assert manifest.data_schema.positive is False
    hour = manifest.data_schema.features[1]
    assert (hour.description, hour.nullable) == ("Local hour", True)
    assert manifest.hyperparameters["logisticregression__max_iter"] == 500
    assert "OneHotEncoder" in built.files["source.txt"].decode()
    assert {"data/training.parquet", "data/validation.parquet"} <= set(built.files)


def test_libraries_are_recorded_by_form() -> None:
    """Each form records what it is read by, and what its estimators come from."""
    assert set(model_package("binary", "compiled").manifest.environment.libraries) == {"lightgbm", "numpy"}
    assert set(sklearn_model("binary").package().manifest.environment.libraries) == {"numpy"}
    assert {"numpy", "scikit-learn", "skops"} <= set(model_package("binary", "skops").manifest.environment.libraries)
    X, y = table()[["distance"]], table().late
    model = make_pipeline(lightgbm.LGBMClassifier(n_estimators=1, verbose=-1)).fit(X, y)
    assert "lightgbm" in package(model, X, y, name="piped", form="skops").manifest.environment.libraries


def refusal(change: dict[str, Any]) -> InvalidInput:
    """What `package` says to a good call with something changed."""
    X, y = table()[["distance", "hour"]], table().late
    good = {"model": LogisticRegression(max_iter=500).fit(X, y), "X": X, "y": y, "name": "good"}
    with pytest.raises(InvalidInput) as refused:
        package(**{**good, **change})
    return refused.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Not A Name"}, "model"),
        ({"y": [True]}, "400 rows and 1 targets"),
        ({"y": [None] * 400}, "missing values"),
        ({"y": ["maybe"] * 400}, "does not know"),
        ({"X": pd.DataFrame()}, "rows and columns"),
        ({"nullable": ["speed"]}, "no column speed"),
        ({"feature_descriptions": {"speed": "mph"}}, "no column speed"),
        ({"classes": ["a", "b"]}, "knows its own classes"),
        ({"model": FunctionTransformer()}, "neither a classifier nor a regressor"),
        ({"model": LinearSVC()}, "no probabilities"),
        ({"parent": "abc"}, "parent"),
        ({"positive": "maybe"}, "one of two classes"),
        ({"metrics": {"mae": float("nan")}}, "finite numbers"),
        ({"model": object()}, "neither a classifier"),
        ({"X": pd.DataFrame({"": [1.0] * 400})}, "Column names"),
        ({"scenarios": [{"name": "x"}]}, "scenarios"),
        ({"validation": (table()[["distance"]], table().late)}, "different columns"),
    ],
    ids=str,
)
def test_impossible_input_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    """Each impossible argument is named in the refusal."""
    assert words in str(refusal(change))


def test_one_class_is_no_classifier() -> None:
    """A classifier that saw one class cannot be judged."""
    X = table()[["distance"]]
    assert "two classes" in str(refusal({"model": Moody().fit(X, [True] * 400)}))


def test_baselines_count_every_value_once() -> None:
    """Bins of equal mass where values differ, merged bins where they are tied, missing values apart."""
    found = numbers([*range(1000), None])
    assert (len(found["edges"]), len(found["counts"]), found["missing"]) == (49, 50, 1)
    assert set(found["counts"]) <= {19, 20, 21}
    assert (found["min"], found["max"], found["sum"]) == (0.0, 999.0, 499500.0)
    tied = numbers([1.0] * 90 + [2.0] * 10)
    assert (tied["edges"], tied["counts"]) == ([1.0, 2.0], [0, 90, 10])
    assert numbers([None])["counts"] == [0]


@pytest.mark.parametrize("task", TARGETS)
def test_the_baseline_file_covers_features_and_answers(task: Task) -> None:
    """All features, and scores with decisions or predictions; counts and missing values add up to the rows."""
    document = json.loads(model_package(task, "skops").files["baseline.json"])
    assert (document["source"], document["rows"]) == ("validation", 200)
    parts = list(document["features"].values())
    parts += [document["predictions"]] if task == "regression" else [*document["scores"].values(), document["decisions"]]
    assert len(document["features"]) == 5
    for part in parts:
        counts = part["counts"] if part["kind"] == "numbers" else [*part["counts"].values(), part["other"], part["unseen"]]
        assert sum(counts) + part["missing"] == 200


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_files_that_people_have_become_packages(suffix: str, tmp_path: Path) -> None:
    """A joblib file and a table with features, target and further columns are enough."""
    trained = sklearn_model("binary")
    frame = trained.X.assign(late=trained.y, note="further")
    data = tmp_path / f"train{suffix}"
    frame.to_csv(data, index=False) if suffix == ".csv" else frame.to_parquet(data)
    joblib.dump(trained.model, tmp_path / "m.joblib")
    built = from_files(tmp_path / "m.joblib", data, "late", name="mine", validation_path=data)
    assert built.manifest.data_schema.names == list(trained.X.columns)
    assert built.manifest.data_schema.target == "late"
    assert built.manifest.training is not None
    assert built.manifest.training.source == f"train{suffix}"


def test_lightgbm_gets_its_categories_back_from_a_table_of_texts(tmp_path: Path) -> None:
    """CSV holds no categories: text columns become those that the model was trained on."""
    trained = lightgbm_model("regression")
    trained.X.assign(minutes=trained.y).to_csv(tmp_path / "train.csv", index=False)
    joblib.dump(trained.model, tmp_path / "m.joblib")
    built = from_files(tmp_path / "m.joblib", tmp_path / "train.csv", "minutes", name="mine")
    assert built.files["trees-0.txt"] == trained.package().files["trees-0.txt"]
    assert built.manifest.data_schema.features[3].categories == ["AA", "B6", "DL", "UA"]


def test_lightgbm_text_files_become_packages(tmp_path: Path) -> None:
    """A text model that LightGBM saved is taken as a Booster."""
    frame = table()[["distance", "hour", "late"]]
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(frame[["distance", "hour"]], frame.late), 3)
    booster.save_model(tmp_path / "model.txt")
    frame.assign(late=frame.late.astype(int)).to_parquet(tmp_path / "train.parquet")
    built = from_files(tmp_path / "model.txt", tmp_path / "train.parquet", "late", name="mine")
    assert (built.manifest.form, built.manifest.data_schema.classes) == ("compiled", [0, 1])


@pytest.mark.parametrize(
    ("model", "data", "target", "words"),
    [
        ("none.joblib", "train.csv", "late", "no file"),
        ("train.csv", "train.csv", "late", "cannot be read as a model"),
        ("m.joblib", "none.csv", "late", "no file"),
        ("m.joblib", "m.joblib", "late", "cannot be read"),
        ("m.joblib", "train.csv", "later", "no column later"),
    ],
)
def test_files_that_cannot_be_used_are_named(model: str, data: str, target: str, words: str, tmp_path: Path) -> None:
    """Missing and unreadable files and columns are named with the next step."""
    joblib.dump(sklearn_model("binary").model, tmp_path / "m.joblib")
    sklearn_model("binary").X.assign(late=True).to_csv(tmp_path / "train.csv", index=False)
    with pytest.raises(InvalidInput, match=words):
        from_files(tmp_path / model, tmp_path / data, target, name="mine")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (float("nan"), "nan"),
        (np.int64(3), 3),
        ((1, [2.0]), [1, [2.0]]),
        ({1: np.log1p}, {"1": "numpy.ufunc"}),
        ({"b", "a"}, ["a", "b"]),
        (halved, f"{halved.__module__}.halved"),
        (SVC, "sklearn.svm._classes.SVC"),
        (object(), "builtins.object"),
    ],
)
def test_parameters_are_json_without_addresses(value: Any, expected: Any) -> None:
    """Every value has one JSON form that is the same in every process."""
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize(("count", "wanted"), [(5, 16), (16, 16), (17, 16), (1000, 16)])
def test_rows_are_chosen_evenly(count: int, wanted: int) -> None:
    """The first and the last row are among them, and none twice."""
    places = spread(count, wanted)
    assert (places[0], places[-1], len(set(places))) == (0, count - 1, min(count, wanted))


def test_package_is_exported_by_the_library() -> None:
    """`quarterdeck.package` is the function."""
    assert quarterdeck.package is package
