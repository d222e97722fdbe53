"""Graphs for GPUs: proven when built, the same answers as the program's, and a plain word where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from quarterdeck.accelerated.build import TOLERANCE, accelerate
from quarterdeck.accelerated.model import load
from quarterdeck.build import BuiltPackage, package
from quarterdeck.compiled.model import load as load_compiled
from quarterdeck.errors import InvalidInput, PackageRefused
from quarterdeck.evaluate import compare
from quarterdeck.schema import Row

FEATURES = ["a", "b", "c"]
COUNT = 1_000


def rows() -> list[Row]:
    """Rows of three numbers, the third of which is missing at times."""
    random = np.random.default_rng(3)
    numbers = random.normal(size=(COUNT, 3)).tolist()
    return [{"a": a, "b": b, "c": None if random.random() < 0.1 else c} for a, b, c in numbers]


def boosted() -> lightgbm.LGBMClassifier:
    """Trees that know missing values."""
    return lightgbm.LGBMClassifier(n_estimators=20, num_leaves=7, n_jobs=1, verbose=-1)


def built(model: object, classes: int, *, complete: bool = False) -> BuiltPackage:
    """A package of a model that is fitted to `rows`; without missing values where it takes none."""
    given = [[row[name] for name in FEATURES] for row in rows()]
    X = np.array([[0.0 if value is None and complete else value for value in row] for row in given], dtype=np.float64)
    signal = np.nan_to_num(X) @ [1.0, -0.5, 0.25]
    y = np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes)) if classes else np.exp(signal / 4)
    fitted = model.fit(X, y)  # type: ignore[attr-defined]
    return package(fitted, X, y, name="sample", target="y")


def tree() -> DecisionTreeClassifier:
    """A small one."""
    return DecisionTreeClassifier(max_depth=4, random_state=0)


Make = Callable[[], object]
MODELS: dict[str, tuple[Make, int, bool]] = {
    "LightGBM": (boosted, 2, False),
    "LightGBM of three classes": (boosted, 3, False),
    "LightGBM's forest": (lambda: boosted().set_params(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7), 2, False),
    "LightGBM, exponential": (lambda: lightgbm.LGBMRegressor(objective="poisson", n_estimators=9, verbose=-1), 0, False),
    "logistic": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), 3, True),
    "exponential": (PoissonRegressor, 0, True),
    "forest": (lambda: RandomForestRegressor(9, random_state=0), 0, True),
    "extra trees": (lambda: ExtraTreesClassifier(9, random_state=0), 3, True),
    "voting": (lambda: VotingClassifier([("t", tree()), ("l", LogisticRegression())], voting="soft"), 2, True),
    "stacking": (lambda: StackingClassifier([("t", tree())], LogisticRegression()), 2, True),
}


def named(built: BuiltPackage) -> list[Row]:
    """`rows` under the package's names of the features, with no null where it takes none."""
    features = built.manifest.data_schema.features
    pairs = [zip(features, row.values(), strict=True) for row in rows()]
    return [{one.name: value if value is not None or one.nullable else 0.0 for one, value in pair} for pair in pairs]


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_answers_as_the_program_does(name: str, tmp_path: Path) -> None:
    """On a thousand rows, missing values among them: the same labels, and scores that differ in their last bits at most."""
    make, classes, complete = MODELS[name]
    plain = built(make(), classes, complete=complete)
    manifest, files = accelerate(plain.manifest, plain.files, named(plain))
    assert manifest.accelerated is not None
    assert (manifest.accelerated.labels_different, manifest.accelerated.tolerance) == (0, TOLERANCE)
    assert manifest.accelerated.largest_difference < 1e-12
    folder = BuiltPackage(manifest, files).write(tmp_path / "package")
    asked = named(plain)
    proof = compare(load_compiled(manifest, folder).predict(asked), load(manifest, folder, "none").predict(asked), TOLERANCE)
    assert (proof.rows, proof.labels_different) == (COUNT, 0)


def test_a_gpu_answers_as_the_processor_does_or_is_said_to_be_missing(tmp_path: Path) -> None:
    """Where there is one: within 1e-5 on a thousand rows. Where there is none: a refusal that names what is missing."""
    plain = built(boosted(), 2)
    manifest, files = accelerate(plain.manifest, plain.files, named(plain))
    folder = BuiltPackage(manifest, files).write(tmp_path / "package")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        asked = named(plain)
        proof = compare(load_compiled(manifest, folder).predict(asked), load(manifest, folder, "cuda").predict(asked), TOLERANCE)
        assert (proof.labels_different, proof.largest_difference <= TOLERANCE) == (0, True)
        return
    with pytest.raises(PackageRefused) as refused:
        load(manifest, folder, "cuda")
    assert (refused.value.code, refused.value.extra["place"]) == ("accelerator-missing", "cuda")
    assert "CUDAExecutionProvider" in refused.value.detail


def test_a_package_without_a_graph_is_not_sent_to_a_gpu(tmp_path: Path) -> None:
    """Named as such, with how to build one."""
    plain = built(boosted(), 2)
    with pytest.raises(PackageRefused) as refused:
        load(plain.manifest, plain.write(tmp_path / "package"), "cuda")
    assert refused.value.code == "accelerator-unsupported"
    assert "--accelerated" in refused.value.hint


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (KNeighborsClassifier(3), "KNeighborsClassifier"),
        (GradientBoostingClassifier(n_estimators=3), "no work"),
        (CalibratedClassifierCV(DecisionTreeClassifier(max_depth=3), method="isotonic"), "no work"),
    ],
    ids=["not compiled", "boosting", "isotonic"],
)
def test_what_has_no_graph_is_refused_when_it_is_built(model: object, said: str) -> None:
    """With the reason, before anything is published."""
    plain = built(model, 2, complete=True)
    with pytest.raises(InvalidInput) as refused:
        accelerate(plain.manifest, plain.files, named(plain))
    assert said in refused.value.detail
