"""Refusals by name before anything is loaded, in one order: manifest, files, environment, trust, load, golden rows."""

from __future__ import annotations

import hashlib
import pickle
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quarterdeck import environment, package_files, verify
from quarterdeck.build import package
from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Environment, FileEntry, GoldenRow, Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Prediction, Schema
from tests.models import Kind, model_package, sklearn_model

COLUMNS = b'{"container":"frame","labels":"scores","columns":[{"name":"distance","dtype":"float64"}]}'


class Canary:
    """Unpickling this writes a file: the proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.path, "sung")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Where the canary writes when it is unpickled."""
    return tmp_path / "canary"


def booby_trap(canary: Path, folder: Path, **change: Any) -> Manifest:
    """A joblib package with the right digests whose model is a canary, as a folder."""
    files = {"model.joblib": pickle.dumps(Canary(canary)), "columns.json": COLUMNS}
    wanted = {
        "model": "trap",
        "form": "joblib",
        "trust": "code",
        "schema": Schema(task="regression", features=[Feature(name="distance", type="float")]),
        "files": [FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in files.items()],
        "environment": environment.current(["joblib"]),
        "golden": [GoldenRow(row={"distance": 1.0}, expected=Prediction(prediction=1.0))],
    }
    manifest = Manifest.model_validate({**wanted, **change})
    package_files.write(manifest, files, folder)
    return manifest


def same_length(path: Path) -> None:
    """Change one bit of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


REFUSALS: dict[str, tuple[dict[str, Any], Callable[[Path], object], dict[str, Any], str, str]] = {
    # name: (change of the manifest, change of the folder, arguments of prove, code, place)
    "another digest": ({}, Path.exists, {"digest": "sha256:" + "0" * 64}, "digest-mismatch", "manifest.json"),
    "tampered model": ({}, lambda folder: same_length(folder / "model.joblib"), {}, "digest-mismatch", "model.joblib"),
    "tampered columns": ({}, lambda folder: same_length(folder / "columns.json"), {}, "digest-mismatch", "columns.json"),
    "missing file": ({}, lambda folder: (folder / "columns.json").unlink(), {}, "file-missing", "columns.json"),
    "wrong python": ({"environment": Environment(python="3.4.1")}, Path.exists, {}, "environment-mismatch", "python"),
    "wrong library": (
        {"environment": Environment(python=platform.python_version(), libraries={"joblib": "0.1"})},
        Path.exists, {}, "environment-mismatch", "joblib",
    ),
    "absent library": (
        {"environment": Environment(python=platform.python_version(), libraries={"no-such-library": "1.0"})},
        Path.exists, {}, "environment-mismatch", "no-such-library",
    ),
    "missing variable": (
        {"environment": Environment(python=platform.python_version(), variables=["FARE_TABLE"])},
        Path.exists, {}, "variable-missing", "FARE_TABLE",
    ),
    "not trusted by the package": ({"trust": "data"}, Path.exists, {}, "trust-required", "trust"),
    "not allowed here": ({}, Path.exists, {"allow_code": False}, "trust-required", "trust"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_before_anything_is_unpickled(name: str, tmp_path: Path, canary: Path) -> None:
    """Each fault has its code and names its place, and the canary stays silent."""
    change, damage, arguments, code, place = REFUSALS[name]
    folder = tmp_path / "package"
    booby_trap(canary, folder, **change)
    damage(folder)
    with pytest.raises(PackageRefused) as refused:
        package_files.prove(folder, **{"allow_code": True, "environ": {}, **arguments})
    assert (refused.value.code, refused.value.extra["place"]) == (code, place)
    assert refused.value.hint
    assert not canary.exists()


def test_the_canary_sings_when_everything_is_allowed(tmp_path: Path, canary: Path) -> None:
    """The control: with trust on both sides the code in the package does run, so the silence above means something."""
    booby_trap(canary, tmp_path / "package")
    with pytest.raises(PackageRefused):
        package_files.prove(tmp_path / "package", allow_code=True, environ={})
    assert canary.read_text() == "sung"


def test_faults_are_found_in_order(tmp_path: Path, canary: Path) -> None:
    """A package with every fault at once is refused for the first one in the order, then the next, as each is repaired."""
    folder = tmp_path / "package"
    everything = Environment(python="3.4.1", variables=["FARE_TABLE"])
    manifest = booby_trap(canary, folder, environment=everything)
    good = (folder / "model.joblib").read_bytes()
    same_length(folder / "model.joblib")
    steps: list[tuple[Callable[[], object], str]] = [
        (lambda: None, "digest-mismatch"),
        (lambda: (folder / "model.joblib").write_bytes(good), "environment-mismatch"),
        (
            lambda: rewrite(folder, manifest, environment=everything.model_copy(update={"python": platform.python_version()})),
            "variable-missing",
        ),
        (lambda: rewrite(folder, manifest, environment=environment.current([])), "trust-required"),
    ]
    for repair, code in steps:
        repair()
        with pytest.raises(PackageRefused) as refused:
            package_files.prove(folder, allow_code=False, environ={})
        assert refused.value.code == code
    assert not canary.exists()


def rewrite(folder: Path, manifest: Manifest, **change: Any) -> Manifest:
    """Replace the manifest of a package folder by a changed one."""
    changed = manifest.model_copy(update=change)
    (folder / "manifest.json").write_bytes(changed.canonical())
    return changed


def test_both_sides_of_a_mismatch_are_named(tmp_path: Path) -> None:
    """The refusal says what was recorded and what is here."""
    manifest = rewrite(model_package("binary", "skops").write(tmp_path / "p"), model_package("binary", "skops").manifest,
                       environment=Environment(python=platform.python_version(), libraries={"numpy": "0.0.1"}))  # fmt: skip
    with pytest.raises(PackageRefused) as refused:
        verify.check_environment(manifest, {})
    here = environment.installed("numpy")
    assert refused.value.extra == {"place": "numpy", "wanted": "0.0.1", "here": here}
    assert "numpy 0.0.1" in refused.value.detail
    assert here in refused.value.detail


def test_micro_releases_of_python_are_equal(tmp_path: Path) -> None:
    """Another feature release is refused, another bug-fix release is not."""
    manifest = model_package("binary", "skops").manifest
    major, minor, _ = platform.python_version_tuple()
    micro = manifest.environment.model_copy(update={"python": f"{major}.{minor}.999"})
    verify.check_environment(manifest.model_copy(update={"environment": micro}), {})
    feature = manifest.environment.model_copy(update={"python": f"{major}.{minor}9.1"})
    with pytest.raises(PackageRefused, match="python"):
        verify.check_environment(manifest.model_copy(update={"environment": feature}), {})


def test_compiled_models_need_no_environment_but_its_variables() -> None:
    """A compiled form runs under any interpreter; a declared variable must be set for every form."""
    manifest = model_package("binary", "compiled").manifest
    foreign = Environment(python="2.7.18", libraries={"lightgbm": "0.1"}, variables=["FARE_TABLE"])
    manifest = manifest.model_copy(update={"environment": foreign})
    verify.check_environment(manifest, {"FARE_TABLE": ""})
    with pytest.raises(PackageRefused) as refused:
        verify.check_environment(manifest, {})
    assert refused.value.code == "variable-missing"


@pytest.mark.parametrize("form", ["compiled", "skops"])
def test_every_changed_byte_is_refused_and_named(form: Kind, tmp_path: Path) -> None:
    """One bit changed at every 1,000th offset of every file: refused by the digest, naming the file."""
    built = model_package("multiclass", form)
    folder = built.write(tmp_path / "p")
    check: Callable[[], object] = partial(verify.check_files, built.manifest, folder)
    check()
    for path, data in built.files.items():
        for place in range(0, len(data), 1000):
            (folder / path).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            for refuse in (check, partial(verify.read_verified, built.manifest, folder, path)):
                with pytest.raises(PackageRefused) as refused:
                    refuse()
                assert (refused.value.code, refused.value.extra["place"]) == ("digest-mismatch", path)
        (folder / path).write_bytes(data)
    check()


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_cut_files_are_refused(cut: int, tmp_path: Path) -> None:
    """A file of zero bytes, of one, or one byte short is not the file."""
    built = model_package("binary", "compiled")
    folder = built.write(tmp_path / "p")
    (folder / "trees-0.txt").write_bytes(built.files["trees-0.txt"][:cut])
    with pytest.raises(PackageRefused, match=r"trees-0\.txt"):
        verify.check_files(built.manifest, folder)


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    """A link in place of a file is refused although its target has the right bytes."""
    built = model_package("binary", "compiled")
    folder = built.write(tmp_path / "p")
    (folder / "trees-0.txt").rename(tmp_path / "elsewhere")
    (folder / "trees-0.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PackageRefused) as refused:
        verify.check_files(built.manifest, folder)
    assert refused.value.code == "file-missing"


@pytest.mark.parametrize("form", ["compiled", "skops"])
@pytest.mark.parametrize("change", [{"prediction": "fine"}, {"scores": [0.2, 0.3, 0.5]}, {"scores": [1.0]}], ids=str)
def test_golden_rows_that_differ_are_refused_by_number(form: Kind, change: dict[str, Any], tmp_path: Path) -> None:
    """A model that loads but answers something else is refused, naming the row."""
    built = model_package("multiclass", form)
    folder = built.write(tmp_path / "p")
    golden = list(built.manifest.golden)
    place = next(index for index, row in enumerate(golden) if row.expected.prediction != "fine")
    golden[place] = golden[place].model_copy(update={"expected": golden[place].expected.model_copy(update=change)})
    rewrite(folder, built.manifest, golden=golden)
    with pytest.raises(PackageRefused) as refused:
        package_files.prove(folder, allow_code=False)
    assert (refused.value.code, refused.value.extra["place"]) == ("golden-mismatch", f"golden row {place}")


@pytest.mark.parametrize(
    ("expected", "answer", "words"),
    [
        (Answer("a", [0.5, 0.5]), Answer("a", [0.5, 0.5 + 5e-10]), ""),
        (Answer("a", [0.5, 0.5]), Answer("a", [0.5, 0.5 + 5e-9]), "score differs"),
        (Answer("a", [0.5, 0.5]), Answer("b", [0.5, 0.5]), "another label"),
        (Answer("a", [0.5, 0.5]), Answer("a", [1.0]), "1 scores instead of 2"),
        (Answer(1e6, []), Answer(1e6 + 1e-5, []), ""),
        (Answer(1e6, []), Answer(1e6 + 1e-2, []), "another number"),
        (Answer(0.0, []), Answer(1e-10, []), ""),
    ],
)
def test_answers_are_compared_by_label_and_tolerance(expected: Answer, answer: Answer, words: str) -> None:
    """Labels must be identical; numbers may differ by 1e-9, absolute or relative."""
    found = verify.differs(expected, answer, 1e-9)
    assert words in found
    assert bool(found) == bool(words)


def test_an_installed_distribution_is_found_without_importing_it() -> None:
    """Versions come from the metadata; what is not installed is empty."""
    assert environment.installed("lightgbm")
    assert environment.installed("no-such-library") == ""
    assert environment.current(["numpy", "no-such-library"], ["B", "A"]).variables == ["A", "B"]


def test_joblib_packages_load_when_both_sides_allow_code(tmp_path: Path) -> None:
    """With `trust: code` in the package and the permission of the deployment, a pickled model serves."""
    trained = sklearn_model("regression")
    built = package(trained.model, trained.X, trained.y, name="pickled", form="joblib", trust="code")
    assert (built.manifest.form, built.manifest.trust) == ("joblib", "code")
    folder = built.write(tmp_path / "p")
    assert package_files.test_package(folder, allow_code=True).passed
    with pytest.raises(PackageRefused) as refused:
        package_files.prove(folder, allow_code=False)
    assert refused.value.code == "trust-required"
