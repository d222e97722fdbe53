"""The work that every server is given: two models, the rows to predict, and what must come out. Deterministic.

`pipe`: StandardScaler on 8 numbers and OneHotEncoder on 4 texts, then a LightGBM classifier of 100 trees.
`booster`: a LightGBM Booster of 100 trees on 20 floats.

    python -m bench.work        # writes .cache/bench/work anew where it is missing or of other library versions
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import joblib
import lightgbm
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bench.forms import FORMS, ROTATION
from bench.places import WORK

Work = Literal["single", "batch", "booster"]
WORKS: tuple[Work, ...] = ("single", "batch", "booster")
NUMBERS = ("age", "income", "balance", "tenure_months", "utilization", "last_txn_days", "score", "n_products")
TEXTS = {
    "country": ("FR", "DE", "ES", "IT", "NL", "BE", "PT", "PL"),
    "channel": ("web", "branch", "phone", "partner", "app"),
    "plan": ("basic", "plus", "premium", "business"),
    "device": ("ios", "android", "windows", "mac", "linux", "other"),
}
FLOATS = tuple(f"f{place}" for place in range(20))
TRAINING_ROWS = 40_000
BATCH_ROWS = 256
_MARK = "mark"


class Trained(NamedTuple):
    """A fitted model with the data that it was fitted to."""

    model: Any
    X: pd.DataFrame
    y: pd.Series[Any]


def customers(rows: int, seed: int) -> pd.DataFrame:
    """Made-up customers: 8 numbers and 4 texts."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.uniform(18, 90, rows),
            "income": random.lognormal(10, 0.6, rows),
            "balance": random.normal(2_000, 1_500, rows),
            "tenure_months": random.integers(0, 240, rows).astype(float),
            "utilization": random.beta(2, 5, rows),
            "last_txn_days": random.exponential(12, rows),
            "score": random.normal(600, 80, rows),
            "n_products": random.integers(1, 7, rows).astype(float),
        }
    )
    return frame.assign(**{name: random.choice(values, rows) for name, values in TEXTS.items()})


@cache
def pipe() -> Trained:
    """The pipeline, fitted to 40,000 customers."""
    X = customers(TRAINING_ROWS, seed=7)
    random = np.random.default_rng(8)
    leaning = (
        0.03 * (X.age - 50)
        - 0.4 * (np.log(X.income) - 10)
        + 1.5 * X.utilization
        + 0.02 * X.last_txn_days
        - 0.004 * (X.score - 600)
        + 0.6 * X.country.isin(["FR", "PL"])
        - 0.9 * (X.plan == "premium")
        + 2.0 * (X.channel == "partner") * X.utilization
    )
    y = pd.Series((random.uniform(size=len(X)) < 1 / (1 + np.exp(-leaning))).astype(int), name="leaves")
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), list(NUMBERS)), ("texts", OneHotEncoder(handle_unknown="ignore"), list(TEXTS))]
    )
    last = lightgbm.LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, verbose=-1, random_state=7)
    return Trained(Pipeline([("columns", columns), ("trees", last)]).fit(X, y), X, y)


@cache
def booster() -> Trained:
    """The Booster, fitted to 40,000 rows of 20 floats."""
    random = np.random.default_rng(9)
    X = pd.DataFrame(random.normal(size=(TRAINING_ROWS, len(FLOATS))), columns=list(FLOATS))
    noise = random.normal(size=TRAINING_ROWS)
    y = pd.Series((X.iloc[:, :5].sum(axis=1) + X.f5 * X.f6 + noise > 0).astype(int), name="yes")
    parameters = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 7}
    return Trained(lightgbm.train(parameters, lightgbm.Dataset(X, y), num_boost_round=100), X, y)


def make() -> Path:
    """Write models, bodies and expected answers where they are missing; the folder.

    Bodies lie in `bodies/<form>.<work>`, one per line, ROTATION of them for single rows; `expected.json` holds P(class 1).
    """
    wanted = _fingerprint()
    mark = WORK / _MARK
    if mark.is_file() and mark.read_text() == wanted:
        return WORK
    (WORK / "bodies").mkdir(parents=True, exist_ok=True)
    joblib.dump(pipe().model, WORK / "pipe.joblib")
    booster().model.save_model(WORK / "booster.txt")
    # Through JSON once, so that what is predicted here is what is sent.
    records = json.loads(json.dumps(customers(BATCH_ROWS, seed=10).to_dict("records")))
    floats = np.random.default_rng(11).normal(size=(BATCH_ROWS, len(FLOATS))).tolist()
    (WORK / "records.json").write_text(json.dumps(records))
    (WORK / "floats.json").write_text(json.dumps(floats))
    _write_bodies({"single": records, "batch": records, "booster": floats})
    scores = pipe().model.predict_proba(pd.DataFrame(records))[:, 1].tolist()
    expected = {"single": scores, "batch": scores, "booster": booster().model.predict(np.array(floats)).tolist()}
    (WORK / "expected.json").write_text(json.dumps(expected))
    mark.write_text(wanted)
    return WORK


def expected(work: Work) -> list[float]:
    """P(class 1) of each row, as the original model says in process."""
    found: dict[str, list[float]] = json.loads((WORK / "expected.json").read_text())
    return found[work]


def records() -> list[dict[str, Any]]:
    """The rows of `single` and `batch`."""
    found: list[dict[str, Any]] = json.loads((WORK / "records.json").read_text())
    return found


def body_file(form: str, work: Work) -> Path:
    """The file of a form's bodies."""
    return WORK / "bodies" / f"{form}.{work}"


def _write_bodies(rows: dict[Work, list[Any]]) -> None:
    for form, written in FORMS.items():
        for work, body_of in written.items():
            given = rows[work]
            bodies = [body_of(given)] if work == "batch" else [body_of([row]) for row in given[:ROTATION]]
            body_file(form, work).write_bytes(b"\n".join(bodies))


def _fingerprint() -> str:
    libraries = [f"{name} {metadata.version(name)}" for name in ("joblib", "lightgbm", "numpy", "pandas", "scikit-learn")]
    sources = [(Path(__file__).parent / name).read_bytes() for name in ("work.py", "forms.py")]
    return hashlib.sha256(b"\n".join([*sources, *(library.encode() for library in libraries)])).hexdigest()


if __name__ == "__main__":
    print(make())
