"""Run by the clients' own Python: saves models with MLflow, lets MLflow load folders, and imports what only MLflow can load."""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

warnings.filterwarnings("ignore")
# Told, so that MLflow does not start a process for each model to find them out.
PINS = ["mlflow==" + mlflow.__version__, "numpy==" + np.__version__, "pandas==" + pd.__version__]
NUMBERS = ["distance", "hour"]


def data() -> tuple[pd.DataFrame, pd.Series]:
    """Flights of several types of column, and whether they were late."""
    random = np.random.default_rng(1)
    rows = pd.DataFrame(
        {
            "distance": random.normal(size=300),
            "hour": random.integers(0, 24, 300),
            "carrier": random.choice(list("ABC"), 300),
            "weekend": random.random(300) > 0.5,
        }
    )
    return rows, pd.Series(np.where(rows.distance + rows.hour / 24 > 0.5, "late", "on time"))


class Twice(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A model of nobody's library."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Twice the distance."""
        return model_input["distance"] * 2


class Shares(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A classifier that gives a column for each class."""

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """How late and how much on time."""
        late = 1 / (1 + np.exp(-model_input["distance"]))
        return pd.DataFrame({"late": late, "punctual": 1 - late})


def save(folder: Path) -> dict[str, Any]:
    """Folders of every flavor, and what each model itself answers to the rows that are asked about."""
    rows, labels = data()
    numbers, asked = rows[NUMBERS], rows[:40]
    binary = (labels == "late").astype(int)
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), ["carrier"]), ("passthrough", ["weekend"])
        ),
        LogisticRegression(),
    ).fit(rows, labels)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 7}, lightgbm.Dataset(numbers, binary), 9)
    regressor = lightgbm.LGBMRegressor(n_estimators=9, num_leaves=7, verbose=-1).fit(numbers, rows.distance)
    array = LogisticRegression().fit(numbers.to_numpy(), labels)
    odd = KNeighborsRegressor(3).fit(numbers, rows.distance)
    sklearn = {"pip_requirements": PINS, "signature": infer_signature(rows, labels.to_numpy()), "input_example": rows[:20]}
    plain = {"pip_requirements": PINS, "signature": infer_signature(numbers, rows.distance), "input_example": numbers[:20]}
    for form in ("cloudpickle", "pickle", "skops"):
        mlflow.sklearn.save_model(pipeline, folder / f"sklearn-{form}", serialization_format=form, **sklearn)
    mlflow.lightgbm.save_model(booster, folder / "lightgbm-text", **plain)
    mlflow.lightgbm.save_model(regressor, folder / "lightgbm-pickle", serialization_format="cloudpickle", **plain)
    bare = {"signature": infer_signature(numbers.to_numpy(), labels.to_numpy()), "input_example": numbers[:20].to_numpy()}
    mlflow.sklearn.save_model(array, folder / "sklearn-array", serialization_format="pickle", pip_requirements=PINS, **bare)
    mlflow.sklearn.save_model(odd, folder / "sklearn-odd", serialization_format="cloudpickle", **plain)
    mlflow.sklearn.save_model(
        pipeline, folder / "no-signature", serialization_format="skops", pip_requirements=PINS, signature=False
    )
    mlflow.sklearn.save_model(
        pipeline, folder / "no-example", serialization_format="skops", pip_requirements=PINS, signature=sklearn["signature"]
    )
    mlflow.pyfunc.save_model(folder / "pyfunc-number", python_model=Twice(), **plain)
    shares = {**plain, "signature": infer_signature(numbers, Shares().predict(None, numbers))}  # type: ignore[no-untyped-call]
    mlflow.pyfunc.save_model(folder / "pyfunc-shares", python_model=Shares(), **shares)
    return {
        "rows": asked.to_dict("records"),
        "sklearn-skops": {"labels": pipeline.predict(asked).tolist(), "scores": pipeline.predict_proba(asked).tolist()},
        "sklearn-array": {"scores": array.predict_proba(asked[NUMBERS].to_numpy()).tolist()},
        "sklearn-odd": {"labels": odd.predict(asked[NUMBERS]).tolist()},
        "lightgbm-text": {"positive": np.asarray(booster.predict(asked[NUMBERS])).tolist()},
        "lightgbm-pickle": {"labels": np.asarray(regressor.predict(asked[NUMBERS])).tolist()},
    }


def predict(folders: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What MLflow answers with folders that it did not write."""
    said = {}
    for folder in folders:
        model = mlflow.pyfunc.load_model(folder)
        frame = pd.DataFrame(rows)[model.metadata.signature.inputs.input_names()]
        found = {"labels": model.predict(frame).tolist()}
        if model.metadata.signature.params:
            found["scores"] = model.predict(frame, params={"predict_method": "predict_proba"}).tolist()
        example = json.loads(Path(folder, "input_example.json").read_text())
        found["example"] = len(model.predict(pd.DataFrame(example["data"], columns=example["columns"])))
        said[Path(folder).name] = found
    return said


def load(core: str, folders: list[str], out: str) -> dict[str, Any]:
    """Packages of models that only MLflow can load, made where MLflow is."""
    # The models' own processes need it as well.
    os.environ["PYTHONPATH"] = core
    sys.path.insert(0, core)
    from quarterdeck.errors import QuarterdeckError
    from quarterdeck.mlflow_models.importing import Wanted, import_mlflow

    said = {}
    for folder in folders:
        try:
            built = import_mlflow(Path(folder), Wanted(name=Path(folder).name, trust="code"))
            built.write(Path(out, Path(folder).name))
            said[Path(folder).name] = built.manifest.model_dump(mode="json", by_alias=True)
        except QuarterdeckError as error:
            said[Path(folder).name] = error.problem()
    return said


def main() -> None:
    """Print what was asked for."""
    told = json.load(sys.stdin)
    doing = {"save": lambda: save(Path(told["folder"])), "predict": lambda: predict(told["folders"], told["rows"])}
    doing["import"] = lambda: load(told["core"], told["folders"], told["out"])
    print(json.dumps(doing[told["do"]]()))


main()
