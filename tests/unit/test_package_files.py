"""Packages as folders and in stores: numbers are won once, equal packages are one version, nothing half done is visible."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quarterdeck import package_files
from quarterdeck.errors import Conflict, NotFound, PackageRefused
from quarterdeck.manifest import Scenario
from quarterdeck.schema import Prediction
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from tests.models import Trained, lightgbm_model, model_package, sklearn_model, version_encoding_model


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty store in a folder."""
    return open_storage(str(tmp_path / "store"))


def test_versions_are_numbered_in_order(storage: Storage) -> None:
    """Each new package gets the next number, and the reference carries its digest."""
    for number in (1, 2, 3):
        built = version_encoding_model(number)
        ref = built.push(storage)
        assert (ref.model, ref.version, ref.digest, ref.trust) == ("versions", number, built.manifest.digest, "data")
    assert package_files.versions(storage, "versions") == [1, 2, 3]


def test_pushing_the_newest_package_again_changes_nothing(storage: Storage) -> None:
    """A repeated push answers the version there is; an older package pushed again becomes a new version."""
    first, second = version_encoding_model(1), version_encoding_model(2)
    assert [first.push(storage).version, first.push(storage).version] == [1, 1]
    assert [second.push(storage).version, first.push(storage).version] == [2, 3]


def test_a_wanted_number_is_won_or_refused(storage: Storage) -> None:
    """A number that is asked for is given once; the same package gets it again, another is a conflict."""
    assert version_encoding_model(1).push(storage, 7).version == 7
    assert version_encoding_model(1).push(storage, 7).version == 7
    with pytest.raises(Conflict, match="version 7"):
        version_encoding_model(2).push(storage, 7)
    assert version_encoding_model(2).push(storage).version == 8


def test_pushes_at_the_same_time_get_different_numbers(storage: Storage) -> None:
    """Eight packages pushed at once become eight versions, each with the package that its pusher was told."""
    packages = [version_encoding_model(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        refs = list(pool.map(lambda built: built.push(storage), packages))
    assert sorted(ref.version for ref in refs) == list(range(1, 9))
    for ref, built in zip(refs, packages, strict=True):
        assert storage.get(manifest_key("versions", ref.version)) == built.manifest.canonical()


def test_equal_files_are_stored_once(storage: Storage) -> None:
    """Two versions that share files share their blobs."""
    model_package("binary", "compiled", description="one").push(storage)
    blobs = set(storage.list("blobs/"))
    model_package("binary", "compiled", description="two").push(storage)
    assert package_files.versions(storage, "sample") == [1, 2]
    assert set(storage.list("blobs/")) == blobs


def test_pull_gives_back_what_was_pushed(storage: Storage, tmp_path: Path) -> None:
    """Folder to store to folder keeps every byte, and the result proves itself."""
    built = model_package("multiclass", "skops")
    ref = built.push(storage)
    manifest = package_files.pull(storage, "sample", ref.version, tmp_path / "pulled")
    assert manifest == built.manifest
    assert {path: (tmp_path / "pulled" / path).read_bytes() for path in built.files} == built.files
    package_files.prove(tmp_path / "pulled", digest=ref.digest, allow_code=False)


def test_pulling_what_is_not_there_lists_what_is(storage: Storage, tmp_path: Path) -> None:
    """An unknown version is named with the known ones as the next step."""
    version_encoding_model(1).push(storage)
    with pytest.raises(NotFound, match=r"no versions v2.*are: 1"):
        package_files.pull(storage, "versions", 2, tmp_path / "pulled")


def test_a_damaged_store_is_noticed(storage: Storage, tmp_path: Path) -> None:
    """A blob that changed in the store is refused by name when it is pulled, and no manifest appears in the folder."""
    built = model_package("binary", "compiled")
    built.push(storage)
    entry = built.manifest.file("trees-0.txt")
    storage.put(blob_key(entry.sha256), b"x" * entry.size)
    with pytest.raises(PackageRefused, match=r"trees-0\.txt"):
        package_files.pull(storage, "sample", 1, tmp_path / "pulled")
    assert not (tmp_path / "pulled" / "manifest.json").exists()


def test_a_tampered_folder_is_not_pushed(storage: Storage, tmp_path: Path) -> None:
    """What would be refused later is not published."""
    folder = model_package("binary", "compiled").write(tmp_path / "p")
    (folder / "source.txt").write_text("other")
    with pytest.raises(PackageRefused, match=r"source\.txt"):
        package_files.push(folder, storage)
    assert list(storage.list("")) == []


def test_folders_of_others_are_not_written_into(tmp_path: Path) -> None:
    """A package can be written again over itself, but not into a folder that holds something else."""
    built = model_package("binary", "compiled")
    folder = built.write(tmp_path / "p")
    assert built.write(folder) == folder
    with pytest.raises(Conflict, match="not empty"):
        version_encoding_model(1).write(folder)
    with pytest.raises(NotFound, match=r"manifest\.json"):
        package_files.read(tmp_path)


def test_scenarios_are_reported_one_by_one(tmp_path: Path) -> None:
    """A report says which scenario failed and at which row; rows without expectations must merely be answered."""
    trained = sklearn_model("regression")
    row = {"distance": 500.0, "hour": 7, "holiday": False, "carrier": "AA", "wind": None}
    scenarios = [
        Scenario(name="answers", rows=[row, row]),
        Scenario(name="wide", rows=[row], expect=[Prediction(prediction=0.0)], tolerance=1e6),
        Scenario(name="wrong", rows=[row, row], expect=[Prediction(prediction=-1e6)] * 2),
        Scenario(name="short", rows=[row, row], expect=[Prediction(prediction=0.0)]),
        Scenario(name="incomplete", rows=[{"distance": 1.0}]),
    ]
    report = package_files.test_package(trained.package(scenarios=scenarios).write(tmp_path / "p"), allow_code=False)
    assert not report.passed
    assert report.golden >= 16
    reasons = {result.name: result.reason for result in report.scenarios}
    assert reasons["answers"] == reasons["wide"] == ""
    assert "row 0" in reasons["wrong"]
    assert "1 expectations" in reasons["short"]
    assert "hour" in reasons["incomplete"]


@pytest.mark.parametrize("trained", [lightgbm_model("binary"), sklearn_model("binary")], ids=["lightgbm", "scikit-learn"])
def test_a_compiled_package_serves_without_the_heavy_libraries(trained: Trained, tmp_path: Path) -> None:
    """Proving and asking a compiled package imports neither lightgbm, pandas, scikit-learn nor boto3."""
    folder = trained.package().write(tmp_path / "p")
    script = f"""
import sys, pathlib, quarterdeck
from quarterdeck import forms, verify
from quarterdeck.manifest import Manifest
folder = pathlib.Path({str(folder)!r})
manifest = Manifest.parse((folder / "manifest.json").read_bytes())
verify.check_files(manifest, folder); verify.check_environment(manifest)
verify.check_golden(manifest, forms.load(manifest, folder, allow_code=False))
print(sorted({{"lightgbm", "pandas", "sklearn", "scipy", "boto3", "pyarrow", "joblib", "skops"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_library_is_light_until_it_is_asked_to_package() -> None:
    """`import quarterdeck` is cheap; `quarterdeck.package` is the function."""
    script = """
import sys, quarterdeck
print(sorted({"lightgbm", "pandas", "sklearn", "numpy", "boto3", "pyarrow"} & set(sys.modules)))
print(quarterdeck.package.__name__, quarterdeck.BuiltPackage.__name__, hasattr(quarterdeck, "nothing"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "package BuiltPackage False"]
