"""Packages of custom Python code: what they hold, what proves them, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from quarterdeck import package_files
from quarterdeck.build_code import package_code
from quarterdeck.errors import InvalidInput, ModelFailed, PackageRefused
from quarterdeck.schema import Feature, Schema
from tests.code_models import code_package, folder_with, numbers, unruly

CLASSES = """
class Model:
    def predict(self, rows):
        return [ANSWER for row in rows]

def load(folder):
    return Model()
"""


def test_a_package_of_code_is_proven_like_any_other(tmp_path: Path) -> None:
    """Golden rows, metrics and the environment of its imports are in it; the building process never imported it."""
    folder = folder_with(
        pricing="import numpy as np\nfrom pricing_helper import double\n\nclass Model:\n    def predict(self, rows):\n"
        "        return [double(np.float64(row['number'])) for row in rows]\n\ndef load(folder):\n    return Model()\n",
        pricing_helper="def double(value):\n    return 2 * value\n",
    )
    built = package_code(folder, "pricing:load", numbers(), numbers()["number"] * 2, name="prices", description="Doubles.")
    manifest = built.manifest
    assert (manifest.form, manifest.trust, manifest.description) == ("python", "code", "Doubles.")
    assert [each.path for each in manifest.files] == ["baseline.json", "code/pricing.py", "code/pricing_helper.py", "entry.json"]
    assert manifest.environment.libraries == {"numpy": np.__version__}
    assert manifest.metrics["training_mae"] == 0.0
    assert len(manifest.golden) >= 10
    assert "pricing" not in sys.modules
    package_files.prove(built.write(tmp_path / "package"), allow_code=True)
    with pytest.raises(PackageRefused, match="not allowed") as refused:
        package_files.prove(tmp_path / "package", allow_code=False)
    assert refused.value.code == "trust-required"


def test_packages_are_the_same_bytes_every_time() -> None:
    """Same folder, same rows, same digest."""
    assert (
        code_package(CLASSES.replace("ANSWER", "1.0")).manifest.digest
        == code_package(CLASSES.replace("ANSWER", "1.0")).manifest.digest
    )


@pytest.mark.parametrize(
    ("answer", "label", "scores"),
    [
        ("[0.25, 0.75]", "yes", [0.25, 0.75]),
        ("{'scores': {'yes': 0.75, 'no': 0.25}}", "yes", [0.25, 0.75]),
        ("{'prediction': 'no', 'scores': {'no': 0.25, 'yes': 0.75}}", "no", [0.25, 0.75]),
        ("(0.5, 0.5)", "no", [0.5, 0.5]),
    ],
)
def test_a_classifier_answers_scores_by_place_or_by_name(answer: str, label: str, scores: list[float]) -> None:
    """Without a label of its own the first class of the highest score is it."""
    built = code_package(CLASSES.replace("ANSWER", answer), y=["no", "yes"] * 5)
    assert built.manifest.data_schema.classes == ["no", "yes"]
    assert {(each.expected.prediction, tuple(each.expected.scores)) for each in built.manifest.golden} == {(label, tuple(scores))}


def test_classes_that_are_numbers_may_be_named_by_their_text() -> None:
    """As JSON's keys are; `classes` makes numbers a classifier's."""
    built = code_package(CLASSES.replace("ANSWER", "{'scores': {'0': 0.1, '1': 0.9}}"), y=[0, 1] * 5, classes=[0, 1])
    assert built.manifest.data_schema.task == "binary"
    assert built.manifest.golden[0].expected.prediction == 1


def test_a_schema_of_the_author_needs_no_targets() -> None:
    """Then nothing is measured."""
    schema = Schema(task="regression", features=[Feature(name="number", type="float")])
    built = package_code(
        folder_with(model=CLASSES.replace("ANSWER", "row['number']")), "model:load", numbers(), name="given", schema=schema
    )
    assert (built.manifest.data_schema, built.manifest.metrics) == (schema, {})


def test_artifacts_lie_in_the_folder_that_load_gets() -> None:
    """And `__file__` of a module leads to the same place."""
    folder = folder_with(
        model="import json\nfrom pathlib import Path\n\nclass Model:\n"
        "    def __init__(self, factor):\n        self.factor = factor\n"
        "    def predict(self, rows):\n        return [self.factor * row['number'] for row in rows]\n\n"
        "def load(folder):\n    assert Path(__file__).parent == folder\n"
        "    return Model(json.loads((folder / 'factor.json').read_text()))\n"
    )
    (folder / "factor.json").write_text("3.0")
    built = package_code(folder, "model:load", numbers(), numbers()["number"], name="factor")
    assert built.manifest.golden[1].expected.prediction == 3.0


def test_only_files_of_the_package_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what lies in the folder of the process, nor what somebody puts beside the verified files, nor stale bytecode."""
    (tmp_path / "stray.py").write_text("value = 1")
    monkeypatch.chdir(tmp_path)
    text = "try:\n    import stray\nexcept ImportError:\n    stray = None\n\n" + CLASSES.replace("ANSWER", "float(stray is None)")
    written = code_package(text).write(tmp_path / "package")
    (written / "code" / "stray.py").write_text("value = 2")
    package_files.prove(written, allow_code=True)
    assert not list(written.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("import os\nos._exit(1)\n", PackageRefused, "ended with status 1"),
        ("import os\n\ndef load(folder):\n    os.kill(os.getpid(), 9)\n", PackageRefused, "ended with SIGKILL"),
        ("def load(folder):\n    while True: pass\n", PackageRefused, "took longer than 3 s"),
        ("def load(folder):\n    raise ValueError('no')\n", PackageRefused, "it raised ValueError"),
        ("def load(folder):\n    raise SystemExit(3)\n", PackageRefused, "it raised SystemExit"),
        ("def load(folder):\n    return 1\n", PackageRefused, "no predict method"),
        ("def other(folder):\n    return 1\n", PackageRefused, "it raised AttributeError"),
        ("import nowhere_to_be_found\n", PackageRefused, "it raised ModuleNotFoundError"),
        (CLASSES.replace("ANSWER", "1.0 / 0"), ModelFailed, "raised ZeroDivisionError"),
        (CLASSES.replace("ANSWER", "float('inf')"), ModelFailed, "not finite"),
        (CLASSES.replace("ANSWER", "'text'"), ModelFailed, "not numbers"),
        (CLASSES.replace("[ANSWER for row in rows]", "[1.0]"), ModelFailed, "answered 1 rows for 10"),
        ("import random\n" + CLASSES.replace("ANSWER", "random.random()"), PackageRefused, "does not reproduce golden row"),
    ],
)
def test_code_that_does_not_work_makes_no_package(text: str, error: type[Exception], said: str) -> None:
    """Named, and whatever it does, the building process lives on."""
    with pytest.raises(error, match=said):
        # Only what never ends is given up on by the clock: all others have the time that a busy machine needs.
        code_package(text, seconds=3.0 if "while True" in text else 60.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("[0.5, 0.25, 0.25]", r"shape \(10, 3\) instead of \(10, 2\)"),
        ("{'prediction': 'maybe', 'scores': {'no': 0.5, 'yes': 0.5}}", "not one of its classes"),
        ("{'scores': {'no': 0.5}}", "without a score for each class"),
        ("{'scores': {'no': 0.5, 'perhaps': 0.5}}", "without a score for each class"),
        ("{'prediction': 'no'}", "without a score for each class"),
        ("{'scores': {'no': 0.5, 'yes': 'half'}}", "not numbers"),
    ],
)
def test_wrong_answers_of_a_classifier_are_named(answer: str, said: str) -> None:
    """Whichever way its answers are given."""
    with pytest.raises(ModelFailed, match=said):
        code_package(CLASSES.replace("ANSWER", answer), y=["no", "yes"] * 5)


def test_what_cannot_be_a_package_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """The folder, the entry point, file names, links, syntax, and the data."""
    good = folder_with(model=CLASSES.replace("ANSWER", "1.0"))
    X, y = numbers(), numbers()["number"]
    odd, linked, broken = folder_with(model="", Odd=""), folder_with(model=""), folder_with(model="def")
    os.symlink(tmp_path, linked / "link")

    def refused(folder: Path, entry: str = "model:load", data: pd.DataFrame = X, **named: Any) -> str:
        with pytest.raises(InvalidInput) as found:
            package_code(folder, entry, data, named.pop("y", y), name="refused", **named)
        return found.value.detail

    assert "no folder" in refused(tmp_path / "nowhere")
    assert "holds no module" in refused(good, "other:load")
    assert "holds no module" in refused(good, "model.load")
    assert "Odd.py is no name" in refused(odd)
    assert "link is no plain file" in refused(linked)
    assert "model.py is not Python" in refused(broken)
    assert "10 rows and 9 targets" in refused(good, y=y[:9])
    assert "Neither a schema nor targets" in refused(good, y=None)
    assert "two different classes" in refused(good, y=["a"] * 10)
    assert "positive" in refused(good, y=["a", "b"] * 5, positive="c")
    assert "no column other" in refused(good, schema=Schema(task="regression", features=[Feature(name="other", type="float")]))
    with pytest.raises(InvalidInput, match="model: String should match"):
        package_code(good, "model:load", X, y, name="No Name")


def test_a_model_may_print_and_exit_without_breaking_its_answers(capfd: pytest.CaptureFixture[str]) -> None:
    """What it prints goes to standard error, where logs are."""
    unruly.__wrapped__()
    printed = capfd.readouterr()
    assert "models may print" in printed.err
    assert not printed.out
