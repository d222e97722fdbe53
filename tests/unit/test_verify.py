"""What lies in a package folder is compared as it is read; answers and environments are compared in words that help."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck import verify
from quarterdeck.environment import current, installed
from quarterdeck.errors import ModelFailed, PackageRefused
from quarterdeck.forms import check_trust, load
from quarterdeck.manifest import Environment, Form, Manifest, Trust
from quarterdeck.model import class_answers, regression_answers
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Row, Schema
from tests.models import version_encoding_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good package."""
    return version_encoding_model(1).write(tmp_path / "package")


def manifest_of(folder: Path) -> Manifest:
    """The manifest as it lies there."""
    return Manifest.parse((folder / "manifest.json").read_bytes())


def outside(folder: Path) -> Path:
    """A file with the right bytes beside the package."""
    target = folder.parent / "outside"
    target.write_bytes((folder / "trees-0.txt").read_bytes())
    return target


PLANTED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to the right bytes": lambda path: path.symlink_to(path.parent.parent / "outside"),
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("name", PLANTED)
def test_only_a_regular_file_is_a_file_of_the_package(name: str, folder: Path) -> None:
    """Whatever was put in its place is refused by the file's name, at once, and no descriptor stays open."""
    manifest, path = manifest_of(folder), folder / "trees-0.txt"
    outside(folder)
    path.unlink()
    PLANTED[name](path)
    before = len(os.listdir("/proc/self/fd"))
    reads: list[Callable[[], object]] = [
        lambda: verify.check_files(manifest, folder),
        lambda: verify.read_verified(manifest, folder, "trees-0.txt"),
        lambda: load(manifest, folder, allow_code=False),
    ]
    for read in reads:
        with pytest.raises(PackageRefused) as caught:
            read()
        assert (caught.value.code, caught.value.extra["place"], bool(caught.value.hint)) == ("file-missing", "trees-0.txt", True)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("python", "libraries", "place"),
    [
        ("2.7.18", {}, "python"),
        (platform.python_version(), {"numpy": "0.0"}, "numpy"),
        (platform.python_version(), {"no-such-library": "1.0"}, "no-such-library"),
        (platform.python_version(), {"numpy": "0.0", "joblib": "0.0"}, "joblib"),
    ],
)
def test_a_foreign_environment_is_refused_with_both_sides(python: str, libraries: dict[str, str], place: str) -> None:
    """What was recorded, what is here, and which of them to change; the first library in alphabetical order."""
    manifest = version_encoding_model(1).manifest.model_copy(
        update={"form": "skops", "environment": Environment(python=python, libraries=libraries)}
    )
    with pytest.raises(PackageRefused) as caught:
        verify.check_environment(manifest, {})
    extra = caught.value.extra
    assert (caught.value.code, extra["place"]) == ("environment-mismatch", place)
    assert extra["wanted"] in caught.value.detail
    assert extra["here"] in caught.value.detail


@pytest.mark.parametrize("environ", [{}, {"OTHER": "secret"}, {"WEATHER": "secret"}])
def test_variables_are_asked_for_by_name_alone(environ: dict[str, str]) -> None:
    """The first that is not set is named; no value is ever looked at or repeated."""
    environment = Environment(python="3", variables=["WEATHER", "WIND"])
    manifest = version_encoding_model(1).manifest.model_copy(update={"environment": environment})
    with pytest.raises(PackageRefused) as caught:
        verify.check_environment(manifest, environ)
    assert (caught.value.code, caught.value.extra["place"]) == ("variable-missing", "WIND" if "WEATHER" in environ else "WEATHER")
    assert "secret" not in str(caught.value)
    verify.check_environment(manifest, dict.fromkeys(["WEATHER", "WIND"], ""))


def test_the_environment_is_recorded_in_one_order() -> None:
    """The order of a set does not get into a digest; what is not installed is left out."""
    found = current({"pandas", "numpy", "no-such-library"}, {"B", "A"})
    assert list(found.libraries) == ["numpy", "pandas"]
    assert found.variables == ["A", "B"]
    assert (found.python, found.libraries["numpy"]) == (platform.python_version(), installed("numpy"))


@pytest.mark.parametrize(
    ("form", "trust", "allowed", "passes"),
    [
        ("compiled", "data", False, True), ("skops", "data", False, True), ("skops", "data", True, True),
        ("skops", "code", False, False), ("skops", "code", True, True), ("compiled", "code", False, False),
        ("joblib", "code", True, True), ("joblib", "code", False, False),
        ("joblib", "data", True, False), ("joblib", "data", False, False),
        ("python", "code", True, True), ("python", "data", True, False),
    ],
)  # fmt: skip
def test_code_runs_only_where_both_sides_say_so(form: Form, trust: Trust, allowed: bool, passes: bool) -> None:
    """A joblib file that calls itself data is refused even where code is allowed."""
    manifest = version_encoding_model(1).manifest.model_copy(update={"form": form, "trust": trust})
    if passes:
        check_trust(manifest, allow_code=allowed)
        return
    with pytest.raises(PackageRefused) as caught:
        check_trust(manifest, allow_code=allowed)
    assert (caught.value.code, caught.value.extra["place"]) == ("trust-required", "trust")


class Fixed:
    """A model that answers what it was told, one answer after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """The next answer, or the next failure."""
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return [Answer(value, []) for value in found]


@pytest.mark.parametrize(
    ("answers", "place", "words"),
    [
        ([[1.0]], "of all", "1 answers to 2 rows"),
        ([[1.0, 1.0, 1.0]], "of all", "3 answers to 2 rows"),
        ([ModelFailed("The model raised KeyError.")], "of all", "The model raised KeyError"),
        ([[1.0, 2.0]], "0", "another number"),
        ([[0.5, 1.0], [0.5]], "1", "another number"),
        ([[0.5, 2.0], [0.5], [2.5]], "1", "another number"),
        ([[0.5, 2.0], []], "0", "0 answers to 1 rows"),
        ([[0.5, 2.0], [0.5], ModelFailed("The model died.")], "1", "The model died"),
    ],
)
def test_golden_rows_are_asked_together_and_one_by_one(answers: list[Any], place: str, words: str) -> None:
    """A model that is right in a batch and wrong alone is refused, by the row and the way in which it was asked."""
    golden = [
        {"row": {"number": 0.0}, "expected": {"prediction": 0.5}},
        {"row": {"number": 1.0}, "expected": {"prediction": 2.0}},
    ]
    document = json.loads(version_encoding_model(1).manifest.canonical()) | {"golden": golden}
    manifest = Manifest.model_validate(document)
    with pytest.raises(PackageRefused, match=words) as caught:
        verify.check_golden(manifest, Fixed(*answers))
    assert (caught.value.code, caught.value.extra["place"]) == ("golden-mismatch", f"golden row {place}")


numbers = st.floats(-1e12, 1e12)


@given(numbers, st.floats(-1e-10, 1e-10), st.floats(1e-7, 1.0))
def test_the_tolerance_is_the_larger_of_absolute_and_relative(value: float, near: float, far: float) -> None:
    """Within 1e-9 is the same number, a ten-millionth away is another, whatever its size and sign."""
    same, other = value + near * max(1.0, abs(value)), value + far * max(1.0, abs(value))
    assert verify.differs(Answer(value, []), Answer(same, []), 1e-9) == ""
    assert verify.differs(Answer(value, []), Answer(other, []), 1e-9) == "another number than expected"
    assert verify.differs(Answer("a", [value]), Answer("a", [same]), 1e-9) == ""
    assert verify.differs(Answer("a", [value]), Answer("a", [other]), 1e-9).startswith("a score differs by ")


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_first_class_of_the_highest_score_is_the_label(scores: list[float]) -> None:
    """Ties go to the earlier class, as numpy's argmax has it; labels come as the schema spells them."""
    schema = Schema(task="multiclass", classes=[1, 2.5, "three"], features=[Feature(name="x", type="int")])
    answer = class_answers(schema, [scores])[0]
    assert answer.prediction is schema.classes[scores.index(max(scores))]
    assert answer.scores == scores
    spelled = class_answers(schema, [scores], [1.0])[0].prediction
    assert (spelled, type(spelled)) == (1, int)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_a_failed_model(value: float) -> None:
    """In a prediction or in a score: JSON has no word for it, and nobody could use it."""
    schema = Schema(task="binary", classes=["a", "b"], positive="b", features=[Feature(name="x", type="int")])
    with pytest.raises(ModelFailed, match="not finite"):
        regression_answers([1.0, value])
    with pytest.raises(ModelFailed, match="not finite"):
        class_answers(schema, [[0.5, value]])
