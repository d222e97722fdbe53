"""The choice of the form: compiled where that is possible and proven, else the model itself with the reason why."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from quarterdeck import build_forms, build_proof
from quarterdeck.build import package
from quarterdeck.compiled.program import PROGRAM_FILE, Arithmetics, Check, Linear, Number, Program
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.package_files import prove
from tests.models import TARGETS, Trained, lightgbm_model, sklearn_model, table


@pytest.mark.parametrize("task", TARGETS)
def test_what_can_be_compiled_is_compiled(task: Any) -> None:
    """A pipeline of scikit-learn's becomes a program, and the proof says on how many rows and edge cases it is equal."""
    manifest = sklearn_model(task).package().manifest
    assert (manifest.form, manifest.trust, manifest.fallback) == ("compiled", "data", "")
    assert manifest.proof is not None
    assert (manifest.proof.rows, manifest.proof.labels_different) == (200, 0)
    assert manifest.proof.largest_difference <= 1e-9
    assert manifest.proof.edges > 20
    assert PROGRAM_FILE in {entry.path for entry in manifest.files}
    assert "columns.json" not in {entry.path for entry in manifest.files}


def test_what_cannot_be_compiled_is_stored_with_the_reason() -> None:
    """The manifest names the class that has no compiled form."""
    X, y = table()[["distance", "hour"]], table().late
    manifest = package(KNeighborsClassifier().fit(X, y), X, y, name="near").manifest
    assert manifest.form == "skops"
    assert manifest.fallback.startswith("KNeighborsClassifier: it compares with its training rows at every prediction")
    # Nothing fell back where nobody asked for the compiled form.
    assert package(LogisticRegression().fit(X, y), X, y, name="near", form="skops").manifest.fallback == ""


def test_compiled_on_demand_is_refused_with_the_reason() -> None:
    """Who asks for the compiled form gets it or learns why not."""
    X, y = table()[["distance", "hour"]], table().late
    with pytest.raises(InvalidInput, match="KNeighborsClassifier: it compares with its training rows"):
        package(KNeighborsClassifier().fit(X, y), X, y, name="near", form="compiled")
    assert package(LogisticRegression().fit(X, y), X, y, name="near", form="compiled").manifest.form == "compiled"


NUMBER = Number(feature="distance")


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Linear(input=0, weights=[[1.0]], bias=[1e-6]), "answers differently: 0 labels of 400, scores by up to"),
        (Arithmetics(input=0, function="minimum", by=[1e300]), "where distance is inf, the original alone refuses the row"),
        (Check(input=0, float32=True), "where distance is 1e+308, the compiled form alone refuses the row"),
        (Linear(input=0, weights=[[1.0, 2.0]], bias=[0.0]), "cannot be loaded"),
        (Linear(input=0, weights=[[math.inf]], bias=[0.0]), "one of its numbers is not finite"),
    ],
)
def test_a_proof_that_fails_is_the_reason(step: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers something else, refuses something else or is none: the model itself is served."""
    X = table()[["distance"]]
    model = LinearRegression().fit(X, X.distance)
    model.coef_, model.intercept_ = np.array([1.0]), 0.0
    program = Program(steps=[NUMBER, step])
    monkeypatch.setattr(build_forms, "compile_model", lambda *given: (program, {}))
    manifest = package(model, X, X.distance, name="off").manifest
    assert manifest.form == "skops"
    assert words in manifest.fallback
    with pytest.raises(InvalidInput, match="cannot be compiled"):
        package(model, X, X.distance, name="off", form="compiled")


def test_a_compiler_that_fails_is_a_reason_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release of a library may lack what the compiler reads; the model can still be served."""

    def fail(model: Any, schema: Any, columns: Any) -> Any:
        raise AttributeError("coef_")

    X = table()[["distance"]]
    monkeypatch.setattr(build_forms, "compile_model", fail)
    manifest = package(LinearRegression().fit(X, X.distance), X, X.distance, name="off").manifest
    assert (manifest.form, manifest.fallback) == ("skops", "LinearRegression: compiling it raised AttributeError")


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=str)
def test_refusals_are_part_of_the_proof(encoder: Any, tmp_path: Any) -> None:
    """An encoder that refuses unseen categories does so compiled: proven, and no golden row."""
    X, y = table()[["carrier"]].fillna("none"), table().late
    built = package(make_pipeline(encoder, LogisticRegression()).fit(X, y), X, y, name="strict")
    assert (built.manifest.form, built.manifest.fallback) == ("compiled", "")
    with pytest.raises(Exception, match="carrier"):
        prove(built.write(tmp_path / "p"), allow_code=False).predict([{"carrier": "quarterdeck-unseen"}])


def test_wide_tables_are_proven_in_bounded_time() -> None:
    """Edge cases are spread over the features; there are never more than a few hundred."""
    random = np.random.default_rng(0)
    X = pd.DataFrame(random.normal(size=(60, 120)), columns=[f"f{place}" for place in range(120)])
    proof = package(DummyRegressor().fit(X, X.f0), X, X.f0, name="wide").manifest.proof
    assert proof is not None
    assert proof.edges == build_proof._MOST_EDGES


@pytest.mark.parametrize("trained", [lightgbm_model("binary"), sklearn_model("binary")], ids=["lightgbm", "pipeline"])
def test_compiled_packages_are_data_whatever_was_permitted(trained: Trained) -> None:
    """Trust in code is not written down where no code is stored."""
    manifest = trained.package(trust="code").manifest
    assert (manifest.form, manifest.trust) == ("compiled", "data")


def test_a_class_of_somebodys_own_is_neither_compiled_nor_stored_as_data() -> None:
    """It may answer anything: only code that is trusted can hold it."""
    X = table()[["distance"]]
    with pytest.raises(PackageRefused, match="Mine"):
        package(Mine().fit(X, X.distance), X, X.distance, name="mine")


class Mine(LinearRegression):  # type: ignore[misc]
    """A subclass of somebody's own."""
