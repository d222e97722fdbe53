"""Packages by command: built from files, published once, fetched, proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.neighbors import KNeighborsRegressor

from tests.models import sklearn_model, table
from tests.unit.cli_shell import Desk, Terminal, desk, ok, run

FEATURES = ["distance", "hour", "holiday", "carrier", "wind"]


@pytest.fixture(scope="module", name="at")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A folder with a fitted model, its data, and a system."""
    with desk(tmp_path_factory.mktemp("packages")) as made:
        trained = sklearn_model("regression")
        joblib.dump(trained.model, made.folder / "m.joblib")
        trained.X.assign(y=trained.y).to_parquet(made.folder / "train.parquet")
        yield made


def build(*more: str, model: str = "m.joblib") -> tuple[str, ...]:
    """The shortest command that builds, and what a test adds to it."""
    return ("package", "build", "--model", model, "--data", "train.parquet", "--target", "y", *more)


def test_model_data_and_target_are_enough_to_build(at: Desk) -> None:
    """Name and folder come from the model's file, which is said on stderr; stdout tells the package."""
    said = run(*build())
    assert said.code == 0, said.err
    assert said.err == "named m after m.joblib; give NAME for another one\n"
    assert said.out.splitlines()[0] == "package/m built"
    assert said.out.splitlines()[-1] == "folder      m"
    assert json.loads((at.folder / "m" / "manifest.json").read_text())["model"] == "m"


def test_a_name_and_a_folder_that_are_given_are_taken(at: Desk) -> None:
    """Without a word about it."""
    said = run(*build("late-flights", "--out", "elsewhere", "-o", "json"))
    assert (said.code, said.err) == (0, "")
    assert (json.loads(said.out)["model"], json.loads(said.out)["folder"]) == ("late-flights", "elsewhere")


@pytest.mark.parametrize(
    ("file", "name"),
    [("Late Flights_v2.joblib", "late-flights-v2"), ("__x__.pkl", "x"), (f"{'a' * 62}-b.joblib", "a" * 62), ("3.txt", "3")],
)
def test_a_name_is_made_of_any_file_that_holds_letters_or_digits(at: Desk, file: str, name: str) -> None:
    """Small letters, digits and single dashes, at most 63; the missing file is refused only afterwards."""
    said = run(*build(model=file))
    assert said.err.splitlines()[0] == f"named {name} after {file}; give NAME for another one"
    assert said.code == 2


def test_a_file_without_letters_needs_a_name(at: Desk) -> None:
    """The next step is the command with its place for NAME."""
    said = run(*build(model="模型.joblib"))
    assert said.code == 2
    assert "package build NAME" in said.err.splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [("--data", "nowhere.parquet"), ("--target", "nothing"), ("--card", "nowhere.md"), ("--trust", "everything")],
    ids=lambda words: words[0],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(at: Desk, words: tuple[str, str]) -> None:
    """Exit status 2 and a next step; no folder."""
    said = run(*build("refused", *words))
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert not (at.folder / "refused").exists()


def test_a_package_is_published_once(at: Desk) -> None:
    """The second push says which version it is already, and makes none."""
    ok(*build("once"))
    first, second = run("package", "push", "once"), run("package", "push", "once")
    assert first.out.splitlines()[0] == "version/once-1 published"
    assert second.out.splitlines()[0] == "version/once-1 already published as version 1"
    assert (first.code, second.code) == (0, 0)
    assert [each["version"] for each in ok("model", "show", "once")["items"]] == [1]


def test_a_package_is_published_once_to_a_store_that_is_named(at: Desk) -> None:
    """The same words without a system; the document is the version's name and digest."""
    ok(*build("stored"))
    store = str(at.folder / "store")
    assert ok("package", "push", "stored", "--to", store)["version"] == 1
    assert run("package", "push", "stored", "--to", store).out.startswith("version/stored-1 already published as version 1\n")
    assert ok("package", "push", "stored", "--to", store, "--version", "4")["version"] == 4
    assert run("model", "show", "stored").code == 3


def test_a_number_that_another_package_has_is_a_conflict(at: Desk) -> None:
    """Exit status 5, and how to get the next one."""
    ok(*build("taken"))
    ok(*build("taken", "--out", "other", "--description", "another one"))
    store = str(at.folder / "taken-store")
    ok("package", "push", "taken", "--to", store)
    said = run("package", "push", "other", "--to", store, "--version", "1")
    assert said.code == 5
    assert said.err.splitlines()[-1] == "hint: Leave the number out to get the next free one."


def test_what_was_pushed_can_be_fetched_proven_and_looked_at(at: Desk) -> None:
    """The same digest at every step; a second fetch into the folder is a conflict."""
    digest = ok(*build("round"))["digest"]
    ok("package", "push", "round")
    assert ok("package", "pull", "round", "1")["digest"] == digest
    assert ok("package", "verify", "round-1")["digest"] == digest
    assert ok("package", "test", "round-1")["passed"]
    shown = run("package", "inspect", "round-1").out
    assert digest in shown
    assert [line.split()[0] for line in shown.partition("\nfeatures\n")[2].splitlines()] == FEATURES
    assert run("package", "pull", "round", "1").code == 5


def test_a_model_that_is_not_compiled_says_why(at: Desk) -> None:
    """The form stands in the summary with the reason; compiled packages have none."""
    trained = sklearn_model("regression")
    X = trained.X[["distance", "hour"]]
    joblib.dump(KNeighborsRegressor().fit(X, trained.y), at.folder / "near.joblib")
    ok(*build("near", model="near.joblib"))
    shown = run("package", "inspect", "near").out.splitlines()
    assert "form        skops, trust data" in shown
    assert any(line.startswith("uncompiled  KNeighborsRegressor: it compares with its training rows") for line in shown)
    ok(*build("linear"))
    shown = run("package", "inspect", "linear").out.splitlines()
    assert "form        compiled, trust data" in shown
    assert not any(line.startswith("uncompiled") for line in shown)
    assert "edge cases, largest difference" in next(line for line in shown if line.startswith("proof"))
    refused = run(*build("refused", "--form", "compiled", model="near.joblib"))
    assert refused.code == 2
    assert "KNeighborsRegressor: it compares with its training rows" in refused.err


def test_a_changed_file_is_named(at: Desk) -> None:
    """Verification and publication refuse it, exit status 1."""
    ok(*build("changed"))
    manifest = json.loads((at.folder / "changed" / "manifest.json").read_text())
    file = at.folder / "changed" / manifest["files"][0]["path"]
    file.write_bytes(file.read_bytes() + b"x")
    for verb in ("verify", "test", "push"):
        said = run("package", verb, "changed")
        assert (said.code, said.out) == (1, "")
        assert manifest["files"][0]["path"] in said.err


def test_a_folder_of_somebody_else_is_no_bug_of_ours(at: Desk) -> None:
    """What the operating system refuses is told by path and reason, without a request to report it."""
    at.file("a-file", "")
    said = run(*build("blocked", "--out", "a-file/inside"))
    assert said.code == 1
    assert said.err.splitlines()[-2].startswith("error: a-file/inside")
    assert said.err.splitlines()[-1] == "hint: Check the path, the rights on it and the space that is left."


def test_rows_from_a_terminal_and_from_a_file_are_read_alike(at: Desk) -> None:
    """One object, a list, or one object a line; who answers is not there, which is told last."""
    row = json.loads(table()[FEATURES].head(1).to_json(orient="records"))[0]
    for text in (json.dumps(row), json.dumps([row, row]), f"{json.dumps(row)}\n{json.dumps(row)}\n"):
        from_file = run("predict", "nobody", at.file("rows.json", text))
        typed = run("predict", "nobody", stdin=Terminal(text))
        assert from_file.code == typed.code != 2
        # Each request has an id of its own.
        said, heard = ([line for line in one.err.splitlines() if not line.startswith("request: ")] for one in (typed, from_file))
        assert said[-len(heard) :] == heard


def test_files_of_the_package_stay_inside(at: Desk, tmp_path: Path) -> None:
    """An absolute folder works as a relative one does, and nothing is written beside it."""
    before = {each.name for each in at.folder.iterdir()}
    ok(*build("inside", "--out", str(tmp_path / "deep" / "er")))
    assert (tmp_path / "deep" / "er" / "manifest.json").is_file()
    assert {each.name for each in at.folder.iterdir()} == before


def test_a_package_is_built_of_code_as_well(at: Desk) -> None:
    """A folder and an entry point stand in the place of a model; numbers are classes where they are named."""
    code = at.folder / "rules"
    code.mkdir()
    (code / "rules.py").write_text(
        "class Rules:\n    def predict(self, rows):\n        return [[0.25, 0.75] for _ in rows]\n\n"
        "def load(folder):\n    return Rules()\n"
    )
    (at.folder / "rows.csv").write_text("number,late\n1.5,0\n2.5,1\n")
    options = ("--code", "rules", "--data", "rows.csv", "--target", "late", "--class", "0", "--class", "1", "-o", "json")
    said = run("package", "build", *options, "--entry-point", "rules:load")
    assert said.code == 0, said.err
    assert [json.loads(said.out)[member] for member in ("model", "form", "trust")] == ["rules", "python", "code"]
    assert json.loads((at.folder / "rules-package" / "manifest.json").read_text())["schema"]["classes"] == [0, 1]


@pytest.mark.parametrize("given", [(), ("--code", "."), ("--model", "m.joblib", "--code", ".", "--entry-point", "a:load")])
def test_a_package_is_built_of_a_model_or_of_code(at: Desk, given: tuple[str, ...]) -> None:
    """Neither nor both, and no code without its entry point."""
    said = run("package", "build", "x", *given, "--data", "train.parquet", "--target", "y")
    assert said.code == 2
    assert "--entry-point" in said.err
