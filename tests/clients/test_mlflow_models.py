"""MLflow's model folders in and out: written and loaded by MLflow itself, with the same answers on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from quarterdeck import package_files
from quarterdeck.errors import Conflict, InvalidInput, PackageRefused
from quarterdeck.forms import load
from quarterdeck.mlflow_models.exporting import export_mlflow
from quarterdeck.mlflow_models.importing import Wanted, import_mlflow
from quarterdeck.records import Answer
from tests.clients.conftest import asked
from tests.support import ROOT

TEXT = {"classes": ["on time", "late"]}


class Saved:
    """What MLflow has saved, with the answers of the models themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = asked("mlflow_models", do="save", folder=str(folder))
        self.rows: list[dict[str, Any]] = self.said["rows"]
        self._packages: dict[str, Path] = {}

    def package(self, name: str, **wanted: Any) -> Path:
        """The package folder of a saved model, made once."""
        if name not in self._packages:
            built = import_mlflow(self.folder / name, Wanted(name=name, **wanted))
            self._packages[name] = built.write(self.folder / "packages" / name)
        return self._packages[name]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """One folder of every kind."""
    return Saved(tmp_path_factory.mktemp("saved"))


def answers(folder: Path, rows: list[dict[str, Any]]) -> list[Answer]:
    """What a package answers to the columns that it takes."""
    manifest = package_files.read(folder)
    model = load(manifest, folder, allow_code=True)
    return model.predict([{name: _named(row)[name] for name in manifest.data_schema.names} for row in rows])


def _named(row: dict[str, Any]) -> dict[str, Any]:
    # A model of a bare array calls its columns by their places.
    return {**row, "column_0": row["distance"], "column_1": float(row["hour"])}


@pytest.mark.parametrize(
    ("name", "trust"),
    [("sklearn-cloudpickle", "code"), ("sklearn-pickle", "code"), ("sklearn-skops", "data"), ("sklearn-array", "code")],
)
def test_sklearn_models_answer_as_they_did_in_mlflow(saved: Saved, name: str, trust: str) -> None:
    """Each serialization: compiled and proven as a build does it, with the same labels and scores on rows it has not seen."""
    folder = saved.package(name, trust=trust)
    manifest = package_files.read(folder)
    assert (manifest.form, manifest.trust, manifest.metrics) == ("compiled", "data", {})
    assert manifest.proof is not None
    expected = saved.said["sklearn-array" if name == "sklearn-array" else "sklearn-skops"]
    found = answers(folder, saved.rows)
    assert [score for one in found for score in one.scores] == pytest.approx(
        [score for scores in expected["scores"] for score in scores], abs=1e-9
    )
    if "labels" in expected:
        assert [one.prediction for one in found] == expected["labels"]


def test_lightgbms_text_needs_no_trust(saved: Saved) -> None:
    """A Booster's text is data; classes are named by whoever imports it."""
    folder = saved.package("lightgbm-text", **TEXT)
    found = answers(folder, saved.rows)
    assert [one.scores[1] for one in found] == pytest.approx(saved.said["lightgbm-text"]["positive"], abs=1e-9)
    assert package_files.read(folder).data_schema.classes == ["on time", "late"]


def test_lightgbms_estimators_come_by_pickle(saved: Saved) -> None:
    """Read in a process of its own, compiled, equal."""
    found = answers(saved.package("lightgbm-pickle", trust="code"), saved.rows)
    assert [one.prediction for one in found] == pytest.approx(saved.said["lightgbm-pickle"]["labels"], abs=1e-9)


def test_a_model_without_a_compiled_form_is_stored_as_it_is(saved: Saved) -> None:
    """As a build would: in another form, with the reason."""
    folder = saved.package("sklearn-odd", trust="code")
    manifest = package_files.read(folder)
    assert manifest.form in ("skops", "joblib")
    assert manifest.fallback
    assert [one.prediction for one in answers(folder, saved.rows)] == pytest.approx(saved.said["sklearn-odd"]["labels"], abs=1e-9)


REFUSED: list[tuple[str, str, str]] = [
    ("sklearn-cloudpickle", "data", "trust-required"),
    ("lightgbm-pickle", "data", "trust-required"),
    ("pyfunc-number", "data", "trust-required"),
    ("no-signature", "code", "signature-missing"),
    ("no-example", "code", "example-missing"),
    ("pyfunc-number", "code", "environment-mismatch"),
]


@pytest.mark.parametrize(("name", "trust", "code"), REFUSED)
def test_what_cannot_be_imported_says_why(saved: Saved, name: str, trust: str, code: str) -> None:
    """By a stable code, with the next step; nothing of the folder was run."""
    with pytest.raises((InvalidInput, PackageRefused)) as caught:
        import_mlflow(saved.folder / name, Wanted.model_validate({"name": name, "trust": trust}))
    assert caught.value.code == code
    assert caught.value.hint


def test_rows_of_a_file_stand_in_for_the_example(saved: Saved, tmp_path: Path) -> None:
    """With their target: then there are metrics, and a digest of the data."""
    path = tmp_path / "rows.csv"
    pd.DataFrame(saved.rows).assign(late=saved.said["sklearn-skops"]["labels"]).to_csv(path, index=False)
    built = import_mlflow(saved.folder / "no-example", Wanted(name="flights", data=str(path), target="late"))
    assert built.manifest.metrics["training_accuracy"] == 1.0
    assert built.manifest.training is not None
    assert (built.manifest.training.rows, built.manifest.training.source) == (len(saved.rows), "rows.csv")


def test_a_pickle_runs_in_a_process_of_its_own(saved: Saved, tmp_path: Path) -> None:
    """One that ends its process takes nobody along, and one that is none is refused by name."""
    for number, (content, words) in enumerate(((b"cos\n_exit\n(I7\ntR.", "status 7"), (b"no pickle", "cannot be read"))):
        folder = shutil.copytree(saved.folder / "sklearn-pickle", tmp_path / str(number))
        (folder / "model.pkl").write_bytes(content)
        with pytest.raises(PackageRefused, match=words) as caught:
            import_mlflow(folder, Wanted(name="broken", trust="code"))
        assert caught.value.code == "load-failed"


@pytest.mark.parametrize("place", ["../outside.pkl", "/etc/passwd", "nowhere.pkl"])
def test_the_folder_cannot_name_files_outside_of_it(saved: Saved, tmp_path: Path, place: str) -> None:
    """The name of the model's file is a stranger's word."""
    folder = shutil.copytree(saved.folder / "sklearn-pickle", tmp_path / "saved")
    (tmp_path / "outside.pkl").write_bytes(b"x")
    text = (folder / "MLmodel").read_text()
    (folder / "MLmodel").write_text(text.replace("pickled_model: model.pkl", f"pickled_model: {place}"))
    with pytest.raises(InvalidInput, match="not in the folder"):
        import_mlflow(folder, Wanted(name="broken", trust="code"))


def test_python_functions_become_packages_of_code(saved: Saved, tmp_path: Path) -> None:
    """Imported where MLflow is, with its recorded environment; golden rows hold what the model itself answers."""
    folders = [str(saved.folder / name) for name in ("pyfunc-number", "pyfunc-shares")]
    said = asked("mlflow_models", do="import", core=str(ROOT / "core"), folders=folders, out=str(tmp_path))
    number, shares = said["pyfunc-number"], said["pyfunc-shares"]
    assert (number["form"], number["trust"], number["schema"]["task"]) == ("python", "code", "regression")
    assert {"mlflow", "pandas", "numpy"} <= set(number["environment"]["libraries"])
    for golden in number["golden"]:
        assert golden["expected"]["prediction"] == pytest.approx(2 * golden["row"]["distance"])
    assert shares["schema"]["classes"] == ["late", "punctual"]
    for golden in shares["golden"]:
        assert sum(golden["expected"]["scores"]) == pytest.approx(1.0)
    # Here is no MLflow: the recorded environment is what refuses it.
    with pytest.raises(PackageRefused) as caught:
        package_files.prove(tmp_path / "pyfunc-number", allow_code=True)
    assert caught.value.code == "environment-mismatch"


def test_mlflow_answers_with_exported_packages_as_we_do(saved: Saved, tmp_path: Path) -> None:
    """Labels, scores and numbers, of packages with and without trees; its folder has everything that MLflow looks for."""
    names: dict[str, Any] = {"sklearn-skops": {}, "lightgbm-text": TEXT, "lightgbm-pickle": {"trust": "code"}}
    for name, wanted in names.items():
        export_mlflow(saved.package(name, **wanted), tmp_path / "exported" / name)
    folders = [str(tmp_path / "exported" / name) for name in names]
    said = asked("mlflow_models", do="predict", folders=folders, rows=saved.rows)
    for name in names:
        found = answers(saved.package(name), saved.rows)
        assert said[name]["labels"] == [one.prediction for one in found]
        assert said[name].get("scores", [[] for _ in found]) == [one.scores for one in found]
        assert said[name]["example"] == len(package_files.read(saved.package(name)).golden)
        assert (tmp_path / "exported" / name / "requirements.txt").read_text().startswith("mlflow\n")


def test_an_export_is_deterministic_and_never_written_over(saved: Saved, tmp_path: Path) -> None:
    """Twice the same bytes; a folder that holds something is refused."""
    package = saved.package("lightgbm-text", **TEXT)
    for name in ("a", "b"):
        export_mlflow(package, tmp_path / name)
    contents = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("a", "b")
    ]
    assert contents[0] == contents[1]
    with pytest.raises(Conflict, match="not empty"):
        export_mlflow(package, tmp_path / "a")
