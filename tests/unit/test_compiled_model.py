"""Compiled models: answers, refusals, explanations, and packages that do not fit."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from quarterdeck.column_rows import ColumnRows
from quarterdeck.compiled import layout
from quarterdeck.compiled.layout import Unfit
from quarterdeck.compiled.model import CompiledModel, load
from quarterdeck.compiled.program import (
    Arithmetics,
    Bins,
    Check,
    Interpolate,
    Linear,
    Link,
    Lookup,
    Mean,
    Number,
    OneHot,
    Power,
    Products,
    Program,
    Quantile,
    Step,
    Take,
    Trees,
)
from quarterdeck.compiled.trees import Booster
from quarterdeck.errors import ModelFailed, NotExplainable, PackageRefused, ValueRefused
from quarterdeck.manifest import Environment, FileEntry, GoldenRow, Manifest
from quarterdeck.records import Answer
from quarterdeck.schema import Feature, Prediction, Row, Schema, Task
from tests.support import ROOT

FEATURES = [
    Feature(name="distance", type="float"),
    Feature(name="wind", type="float", nullable=True),
    Feature(name="hour", type="int"),
    Feature(name="carrier", type="string"),
]
CLASSES: dict[Task, list[Any]] = {"binary": [False, True], "multiclass": ["early", "fine", "late"], "regression": []}
CARRIERS = ["AA", "B6", "DL"]
# Two numbers scaled, one as it comes, one text in three columns.
ENCODING: list[Step] = [
    Number(feature="distance"),
    Number(feature="wind"),
    Number(feature="hour"),
    Take(parts=[(0, 0), (1, 0)]),
    Arithmetics(input=3, function="subtract", by=[900.0, 10.0]),
    Arithmetics(input=4, function="divide", by=[300.0, 4.0]),
    OneHot(feature="carrier", width=3, values=list(CARRIERS), columns=[0, 1, 2], unseen=-1),
    Take(parts=[(5, 0), (6, 1), (5, 1), (6, 0), (6, 2), (2, 0)]),
]
WIDTH = 6


def schema(task: Task) -> Schema:
    """Of one task over `FEATURES`."""
    return Schema(task=task, classes=CLASSES[task], positive=True if task == "binary" else None, features=FEATURES)


def records(count: int, seed: int = 0) -> list[Row]:
    """Rows with nulls where they are allowed, and a carrier that nobody has seen."""
    random = np.random.default_rng(seed)
    columns = [
        random.gamma(3.0, 300.0, count).tolist(),
        [
            None if gone else wind
            for gone, wind in zip(random.random(count) < 0.1, random.normal(10, 4, count).tolist(), strict=True)
        ],
        random.integers(0, 24, count).tolist(),
        random.choice([*CARRIERS, "ZZ"], count).tolist(),
    ]
    return [dict(zip([feature.name for feature in FEATURES], values, strict=True)) for values in zip(*columns, strict=True)]


def encoded(rows: Sequence[Row]) -> Any:
    """What `ENCODING` makes of rows, worked out apart from it."""
    found = []
    for row in rows:
        distance, wind, hour, carrier = row.values()
        hot = [float(carrier == name) for name in CARRIERS]
        scaled_wind = (float("nan") if wind is None else wind) - 10.0  # type: ignore[operator]
        found.append([(distance - 900.0) / 300.0, hot[1], scaled_wind / 4.0, hot[0], hot[2], float(hour)])  # type: ignore
    return np.array(found)


@cache
def trained(task: Task) -> Any:
    """LightGBM's own booster on the encoded rows."""
    X = encoded(records(2000, 7))
    y = X[:, 0] + X[:, 1] * 2 - 0.1 * X[:, 5] + np.nan_to_num(X[:, 2])
    target = {"binary": y > 0, "multiclass": np.digitize(y, [-1, 1]), "regression": y}[task]
    settings = {"objective": task, "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 0}
    if task == "multiclass":
        settings["num_class"] = 3
    return lightgbm.train(settings, lightgbm.Dataset(X, target), num_boost_round=20)


def tree_program(task: Task) -> Program:
    """`ENCODING`, the booster, and what the schema wants of it."""
    outputs = 3 if task == "multiclass" else 1
    steps = [*ENCODING, Trees(input=7, file="trees-0.txt", outputs=outputs, transform=True)]
    return Program(steps=[*steps, Link(input=8, function="pair")] if task == "binary" else steps, explain=8)


@cache
def tree_model(task: Task) -> CompiledModel:
    """A model of trees."""
    return CompiledModel(schema(task), tree_program(task), {"trees-0.txt": Booster(trained(task).model_to_string().encode())})


def program_model(steps: list[Step], task: Task = "regression", explain: int | None = None) -> CompiledModel:
    """A model without trees."""
    return CompiledModel(schema(task), Program(steps=steps, explain=explain), {})


@pytest.mark.parametrize("count", [1, 5, 40, 5000])
@pytest.mark.parametrize("task", CLASSES)
def test_any_number_of_rows_is_answered_as_by_lightgbm(task: Task, count: int) -> None:
    """Alone, few, many and in several parts: the scores of LightGBM's own package, by rows and by columns."""
    rows = records(count)
    expected = trained(task).predict(encoded(rows), num_threads=1)
    scores = np.stack([1.0 - expected, expected], axis=1) if task == "binary" else expected.reshape(count, -1)
    columns = ColumnRows({name: [row[name] for row in rows] for name in rows[0]}, count)
    for given in (rows, columns):
        answers = tree_model(task).predict(given)
        if task == "regression":
            assert answers == [Answer(value, []) for value in expected.tolist()]
        else:
            labels = [CLASSES[task][place] for place in scores.argmax(axis=1).tolist()]
            assert answers == [Answer(label, row) for label, row in zip(labels, scores.tolist(), strict=True)]
            assert all(type(answer.prediction) is type(CLASSES[task][0]) for answer in answers)
        assert np.array_equal(tree_model(task).many(given), scores)


def test_columns_of_numpy_are_taken_as_they_are() -> None:
    """Arrays of float64, int64 and bool give what lists of the same values give."""
    rows = [{**row, "wind": 3.5} for row in records(50)]
    arrays: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in ("distance", "wind", "hour")}
    arrays["carrier"] = [row["carrier"] for row in rows]
    assert arrays["hour"].dtype == np.int64
    assert tree_model("binary").predict(ColumnRows(arrays, 50)) == tree_model("binary").predict(rows)


def test_no_rows_no_answers() -> None:
    """An empty request is answered with nothing, and explained with nothing."""
    assert tree_model("binary").predict([]) == []
    assert tree_model("multiclass").many([]).shape == (0, 3)
    assert tree_model("binary").explain([]) == []


REFUSALS: list[tuple[str, Row, str, str]] = [
    ("absent", {"distance": 1.0, "hour": 1, "carrier": "AA"}, "wind", "model-failed"),
    ("absent text", {"distance": 1.0, "wind": 1.0, "hour": 1}, "carrier", "model-failed"),
    ("text", {"distance": "secret", "wind": 1.0, "hour": 1, "carrier": "AA"}, "distance", "model-failed"),
    ("text of a number", {"distance": "42", "wind": 1.0, "hour": 1, "carrier": "AA"}, "distance", "model-failed"),
    ("null against the schema", {"distance": None, "wind": 1.0, "hour": 1, "carrier": "AA"}, "distance", "model-failed"),
    ("too large", {"distance": 1.0, "wind": 1.0, "hour": 10**400, "carrier": "AA"}, "hour", "model-failed"),
    ("null that is refused", {"distance": 1.0, "wind": 1.0, "hour": 1, "carrier": None}, "carrier", "value-refused"),
]


@pytest.mark.parametrize(("row", "feature", "code"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
@pytest.mark.parametrize("others", [0, 3, 60])
def test_refusals_name_the_feature_and_not_the_value(row: Row, feature: str, code: str, others: int) -> None:
    """Alone and among others: the same code, the feature's name, never the value."""
    with pytest.raises(ModelFailed, match=feature) as failed:
        tree_model("binary").predict([*records(others), row])
    assert (failed.value.code, failed.value.name) == (code, feature)
    assert "secret" not in str(failed.value.problem())
    if code == "value-refused":
        assert failed.value.extra["row"] == others


CHECKS: list[tuple[str, list[Step], Row, str]] = [
    ("NaN", [Number(feature="wind"), Check(input=0)], {"wind": None}, "Feature wind"),
    ("infinity", [Number(feature="wind"), Check(input=0, nan=True)], {"wind": -np.inf}, "Feature wind"),
    ("float32", [Number(feature="wind"), Check(input=0, nan=True, float32=True)], {"wind": -3.41e38}, "Feature wind"),
    ("bounds", [Number(feature="hour", bounds=(-128, 127))], {"hour": 128}, "Feature hour"),
    ("box-cox", [Number(feature="wind"), Power(input=0, method="box-cox", lambdas=[0.5])], {"wind": 0.0}, "Feature wind"),
    ("unseen", [Lookup(feature="carrier", values=["AA"], rows=[[1.0]], missing=[0.0])], {"carrier": "ZZ"}, "Feature carrier"),
    (
        "checked table",
        [Lookup(feature="carrier", values=["AA", "B6"], rows=[[1.0], [None]], unseen=[0.0]), Check(input=0)],
        {"carrier": "B6"},
        "Feature carrier",
    ),
    (
        "several",
        [
            Number(feature="wind"),
            Number(feature="distance"),
            Take(parts=[(0, 0), (1, 0)]),
            Products(input=2, factors=[[0, 1]]),
            Check(input=3),
        ],
        {"wind": np.inf},
        "distance, wind",
    ),
]


@pytest.mark.parametrize(("steps", "change", "words"), [case[1:] for case in CHECKS], ids=[case[0] for case in CHECKS])
def test_what_the_original_refuses_is_refused(steps: list[Step], change: Row, words: str) -> None:
    """Whether or not the scores need the column: alone and among others, naming features and the row."""
    good: Row = {"distance": 1.0, "wind": 2.0, "hour": 3, "carrier": "AA"}
    needed = program_model(steps)
    unneeded = program_model([*steps, Number(feature="distance")])
    for model in (needed, unneeded):
        assert model.predict([good]) == model.predict([good] * 40)[:1]
        for rows in ([{**good, **change}], [good] * 40 + [{**good, **change}]):
            with pytest.raises(ModelFailed, match=words) as failed:
                model.predict(rows)
            assert failed.value.code == "value-refused"
            assert (failed.value.status, failed.value.extra["row"]) == (422, len(rows) - 1)


def test_a_refused_row_is_counted_over_all_parts_of_a_large_request() -> None:
    """Rows pass in parts, which the caller knows nothing of."""
    model = program_model([Number(feature="hour", bounds=(0, 23))])
    rows = [*records(9000), {"distance": 1.0, "wind": None, "hour": 24, "carrier": "AA"}]
    with pytest.raises(ModelFailed) as failed:
        model.many(rows)
    assert failed.value.extra == {"row": 9000, "column": "hour"}


@pytest.mark.parametrize("rows", [1, 40])
def test_scores_that_are_not_finite_are_no_answer(rows: int) -> None:
    """A null that runs through to the score, and an overflow, fail the row."""
    model = program_model([Number(feature="wind"), Arithmetics(input=0, function="multiply", by=[1e308])])
    for wind in (None, 1e10):
        with pytest.raises(ValueRefused, match="not finite"):
            model.predict([{"distance": 1.0, "wind": wind, "hour": 1, "carrier": "AA"}] * rows)


@pytest.mark.parametrize("task", CLASSES)
def test_contributions_of_trees_add_up_to_the_raw_score(task: Task) -> None:
    """On 1,000 rows: base and features give LightGBM's raw score to 1e-6, each one-hot column counted to its feature."""
    rows = records(1000, 5)
    raw = trained(task).predict(encoded(rows), raw_score=True).reshape(1000, -1)
    for explained, scores in zip(tree_model(task).explain(rows), raw.tolist(), strict=True):
        assert [one.raw for one in explained] == scores
        for one in explained:
            assert set(one.features) == {feature.name for feature in FEATURES}
            assert abs(one.base + sum(one.features.values()) - one.raw) <= 1e-6
    labels = [one.label for one in tree_model(task).explain(rows[:1])[0]]
    assert labels == {"binary": [True], "multiclass": CLASSES["multiclass"], "regression": [None]}[task]


def test_contributions_of_a_linear_model_are_weight_times_value() -> None:
    """On 1,000 rows they add up; a column of ones belongs to the base."""
    random = np.random.default_rng(1)
    weights, bias = random.normal(size=(3, 7)).tolist(), random.normal(size=3).tolist()
    fill = Arithmetics(input=7, function="fill", by=[0.0] * WIDTH)
    ones = Products(input=8, factors=[[], *[[column] for column in range(WIDTH)]])
    steps = [*ENCODING, fill, ones, Linear(input=9, weights=weights, bias=bias), Link(input=10, function="softmax")]
    model = program_model(steps, "multiclass", explain=10)
    rows = records(1000, 6)
    X = np.hstack([np.ones((1000, 1)), np.nan_to_num(encoded(rows))])
    raw = X @ np.array(weights).T + bias
    for row, explained in enumerate(model.explain(rows)):
        for output, one in enumerate(explained):
            assert one.label == CLASSES["multiclass"][output]
            assert one.base == pytest.approx(bias[output] + weights[output][0])
            assert one.features["hour"] == pytest.approx(weights[output][WIDTH] * X[row, WIDTH])
            assert abs(one.base + sum(one.features.values()) - raw[row, output]) <= 1e-6
            assert abs(one.raw - raw[row, output]) <= 1e-6


MIXED = Products(input=7, factors=[[0, 2], [1]])
UNEXPLAINED: list[tuple[str, list[Step], int | None, str]] = [
    ("no step", [Number(feature="hour")], None, "not those of one ensemble"),
    ("mixed", [*ENCODING, MIXED, Linear(input=8, weights=[[1.0, 1.0]], bias=[0.0])], 9, "distance, wind together"),
]


@pytest.mark.parametrize(("steps", "place", "words"), [case[1:] for case in UNEXPLAINED], ids=[case[0] for case in UNEXPLAINED])
def test_what_cannot_be_explained_says_why(steps: list[Step], place: int | None, words: str) -> None:
    """501 with the reason."""
    with pytest.raises(NotExplainable, match=words) as refused:
        program_model(steps, explain=place).explain(records(1))
    assert (refused.value.status, refused.value.code) == (501, "explain-unsupported")


HOUR = Number(feature="hour")
PAIR = Take(parts=[(0, 0), (0, 0)])


def wide_steps() -> list[Step]:
    """A text of 900 values in one column each, scaled, some of them taken out of order beside a number."""
    columns = [place - 1 for place in range(900)]
    hot = OneHot(
        feature="carrier", width=899, values=[f"C{place}" for place in range(900)], columns=columns, unseen=-1, missing=7
    )
    scaled = Arithmetics(input=0, function="divide", by=[1.0 + place / 7 for place in range(899)])
    parts = [(1, place) for place in range(898, 100, -1)]
    return [hot, scaled, Number(feature="hour"), Take(parts=[*parts[:400], (2, 0), *parts[400:]])]


def wide_models() -> dict[str, CompiledModel]:
    """A linear model and one of trees behind these steps."""
    random = np.random.default_rng(2)
    X = random.normal(size=(3000, 799))
    X[:, :50] = random.random((3000, 50)) < 0.3
    settings = {"objective": "regression", "num_leaves": 15, "verbose": -1, "num_threads": 1, "seed": 0}
    trained = lightgbm.train(settings, lightgbm.Dataset(X, X[:, 0] + X[:, 400] + X[:, 3]), num_boost_round=10)
    files = {"trees-0.txt": Booster(trained.model_to_string().encode())}
    linear = Linear(input=3, weights=[random.normal(size=799).tolist()], bias=[0.5])
    programs = {
        "linear": Program(steps=[*wide_steps(), linear], explain=4),
        "trees": Program(steps=[*wide_steps(), Trees(input=3, file="trees-0.txt", outputs=1)], explain=4),
        "float32": Program(steps=[*wide_steps(), Trees(input=3, file="trees-0.txt", outputs=1, precision="float32")], explain=4),
    }
    return {name: CompiledModel(schema("regression"), program, files) for name, program in programs.items()}


def test_wide_encoders_answer_as_narrow_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables too large to be written out give the same numbers, by row and by column, and the same explanations."""
    random = np.random.default_rng(3)
    wide = wide_models()
    monkeypatch.setattr(layout, "LARGEST_TABLE", 10**9)
    names = [*(f"C{place}" for place in random.integers(0, 1000, 60)), "C1", "C899", None]
    rows: list[Row] = [{"distance": 1.0, "wind": 1.0, "hour": place % 24, "carrier": name} for place, name in enumerate(names)]
    for name, narrow in wide_models().items():
        expected = narrow.many(rows)
        assert len(np.unique(expected)) > (60 if name == "linear" else 3)
        assert np.array_equal(wide[name].many(rows), expected)
        assert np.array_equal([wide[name].scores(row) for row in rows], expected)
        assert wide[name].explain(rows) == narrow.explain(rows)


WIDE = OneHot(feature="carrier", width=1000, values=list(map(str, range(1000))), columns=list(range(1000)))
UNFIT: list[tuple[str, list[Step], str]] = [
    ("unknown feature", [Number(feature="nobody")], "step 0 .number. reads nobody"),
    ("text as a number", [Number(feature="carrier")], "which is text"),
    ("unknown looked up", [OneHot(feature="nobody", width=1, values=[], columns=[])], "reads nobody"),
    ("nothing looked up", [OneHot(width=1, values=[], columns=[])], "neither or both"),
    ("wide key", [HOUR, PAIR, OneHot(input=1, width=1, values=[1], columns=[0])], "more than one column"),
    ("values and columns", [OneHot(feature="carrier", width=1, values=["a"], columns=[])], "one entry for each value"),
    ("column beyond", [OneHot(feature="carrier", width=1, values=["a"], columns=[1])], "beyond its width"),
    ("ragged rows", [Lookup(feature="carrier", values=["a", "b"], rows=[[1.0], []])], "different widths"),
    ("no rows", [Lookup(feature="carrier", values=[], rows=[])], "different widths"),
    ("wide sums", [WIDE, Arithmetics(input=0, function="add", by=[1.0] * 1000)], "something else than 0"),
    ("wide products", [WIDE, Products(input=0, factors=[[0, 1]])], "mixes columns of a wide encoder"),
    ("wide means", [WIDE, Mean(inputs=[0], weights=[1.0])], "mixes columns of a wide encoder"),
    ("wide scores", [WIDE], "ends with columns of a wide encoder"),
    ("wide and twice", [WIDE, Take(parts=[(0, 1), (0, 1)])], "a wide encoder twice"),
    ("take", [HOUR, Take(parts=[(0, 1)])], "takes column 1 of step 0"),
    ("take before the first", [HOUR, Take(parts=[(0, -1)])], "takes column -1"),
    ("constants", [HOUR, Arithmetics(input=0, function="add", by=[])], "one constant for each of 1"),
    ("powers", [HOUR, Power(input=0, method="box-cox", lambdas=[])], "one power for each"),
    ("edges", [HOUR, Bins(input=0, edges=[])], "one list of edges"),
    ("quantiles", [HOUR, Quantile(input=0, references=[0.0], quantiles=[], distribution="normal")], "list of quantiles"),
    ("references", [HOUR, Quantile(input=0, references=[0.0], quantiles=[[]], distribution="normal")], "one quantile for each"),
    ("factors", [HOUR, Products(input=0, factors=[[1]])], "multiplies a column"),
    ("weights", [HOUR, Linear(input=0, weights=[[1.0, 2.0]], bias=[0.0])], "one weight for each of 1"),
    ("biases", [HOUR, Linear(input=0, weights=[[1.0]], bias=[])], "one bias"),
    ("pair of two", [HOUR, PAIR, Link(input=1, function="pair")], "pairs a block"),
    ("interpolated pair", [HOUR, PAIR, Interpolate(input=1, x=[0.0], y=[0.0])], "interpolates a block"),
    ("points", [HOUR, Interpolate(input=0, x=[0.0], y=[])], "one y for each x"),
    ("means of widths", [HOUR, PAIR, Mean(inputs=[0, 1], weights=[1.0, 1.0])], "different widths"),
    ("weights of a mean", [HOUR, Mean(inputs=[0], weights=[])], "one weight for each block"),
    ("narrow trees", [HOUR, Trees(input=0, file="trees-0.txt", outputs=1)], "gives 1 columns to trees-0.txt, which takes 6"),
    ("other outputs", [*ENCODING, Trees(input=7, file="trees-0.txt", outputs=2)], "expects 2 outputs"),
    ("two scores", [HOUR, PAIR], "ends with 2 columns"),
]


@pytest.mark.parametrize(("steps", "words"), [case[1:] for case in UNFIT], ids=[case[0] for case in UNFIT])
def test_programs_that_do_not_fit_are_refused_before_any_row(steps: list[Step], words: str) -> None:
    """The step and what is wrong with it are named."""
    booster = Booster(trained("regression").model_to_string().encode())
    with pytest.raises(Unfit, match=words):
        CompiledModel(schema("regression"), Program(steps=steps), {"trees-0.txt": booster})


def test_only_trees_and_linear_steps_can_be_explained() -> None:
    """A program that names another step, or none that exists, is refused."""
    for place in (0, 5):
        with pytest.raises(Unfit, match="explains a step"):
            program_model([HOUR], explain=place)
    aside = Linear(input=0, weights=[[1.0]], bias=[0.0])
    with pytest.raises(Unfit, match="its scores do not come from"):
        program_model([HOUR, aside, Take(parts=[(0, 0)])], explain=1)


def written(folder: Path, changes: Mapping[str, bytes] | None = None) -> Manifest:
    """The files of a package of trees, some of them changed."""
    task: Task = "binary"
    program = tree_program(task).model_dump_json().encode()
    files = {"program.json": program, "trees-0.txt": trained(task).model_to_string().encode(), **(changes or {})}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    row = records(1)[0]
    answer = tree_model(task).predict([row])[0]
    return Manifest(
        model="late",
        form="compiled",
        data_schema=schema(task),
        files=[FileEntry(path=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()],
        environment=Environment(python=""),
        golden=[GoldenRow(row=row, expected=Prediction(prediction=answer.prediction, scores=answer.scores))],
    )


def test_a_package_is_loaded_from_its_files(tmp_path: Path) -> None:
    """Program and trees are read, and the model answers as before it was written."""
    model = load(written(tmp_path), tmp_path)
    assert model.predict(records(100)) == tree_model("binary").predict(records(100))


@pytest.mark.parametrize(
    ("changes", "place", "words"),
    [
        ({"program.json": b"{}"}, "program.json", "steps: Field required"),
        ({"program.json": b'{"steps":[{"op":"take","parts":[[0,0]]}]}'}, "program.json", "not before it"),
        ({"program.json": b'{"steps":[{"op":"number","feature":"nobody"}]}'}, "program.json", "reads nobody"),
        ({"trees-0.txt": b"tree\n"}, "trees-0.txt", "it has no trees"),
        ({"program.json": b'{"steps":[{"op":"lookup","feature":"carrier","values":[],"rows":[]}]}'}, "program.json", "widths"),
    ],
    ids=["empty", "backwards", "unknown feature", "no trees", "no rows"],
)
def test_packages_that_do_not_fit_name_the_file(changes: dict[str, bytes], place: str, words: str, tmp_path: Path) -> None:
    """`load-failed`, with the file and the reason."""
    with pytest.raises(PackageRefused, match=words) as refused:
        load(written(tmp_path, changes), tmp_path)
    assert (refused.value.code, refused.value.extra) == ("load-failed", {"place": place})


def test_files_that_were_changed_are_not_loaded(tmp_path: Path) -> None:
    """The bytes that are read are compared once more."""
    manifest = written(tmp_path)
    (tmp_path / "trees-0.txt").write_bytes(b"tree\n")
    with pytest.raises(PackageRefused) as refused:
        load(manifest, tmp_path)
    assert refused.value.code == "digest-mismatch"


FOREIGN = ["pandas", "sklearn", "scipy", "pyarrow", "boto3", "lightgbm", "skops", "joblib", "onnx", "onnxruntime", "grpc"]
ASK = """
import json, sys
from pathlib import Path
from quarterdeck.compiled.model import load
from quarterdeck.manifest import Manifest
folder = Path(sys.argv[1])
model = load(Manifest.parse((folder / "manifest.json").read_bytes()), folder)
rows = json.loads((folder / "rows.json").read_text())
model.predict(rows[:1]), model.predict(rows), model.explain(rows)
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


def test_a_compiled_model_needs_no_large_library(tmp_path: Path) -> None:
    """Loading, predicting and explaining import none of the libraries that made the model."""
    (tmp_path / "manifest.json").write_bytes(written(tmp_path).canonical())
    (tmp_path / "rows.json").write_text(json.dumps(records(50)))
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path), *FOREIGN], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
