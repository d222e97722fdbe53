"""What differs between two versions: every section, both ways, and nothing between a version and itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.compare import Comparison, compare
from quarterdeck.manifest import DataSummary, Environment, FileEntry, GoldenRow, Manifest
from quarterdeck.schema import Feature, Prediction, Schema

SECTIONS = ("package", "features", "hyperparameters", "environment", "files", "golden")


def version(features: dict[str, str] | None = None, **more: Any) -> Manifest:
    """A small binary classifier's manifest."""
    columns = [Feature(name=name, type=kind) for name, kind in (features or {"hour": "int"}).items()]
    golden = GoldenRow(row={column.name: 1 for column in columns}, expected=Prediction(prediction="no", scores=[0.7, 0.3]))
    return Manifest.model_validate(
        {
            "model": "flights",
            "form": "compiled",
            "schema": Schema(task="binary", classes=["no", "yes"], positive="yes", features=columns),
            "files": [FileEntry(path="model.txt", size=1, sha256="1" * 64)],
            "environment": Environment(python="3.11.7", libraries={"numpy": "2.4.6"}),
            "golden": [golden],
            **more,
        }
    )


def told(comparison: Comparison, section: str) -> list[tuple[str, Any, Any]]:
    """What a section holds."""
    return [(one.name, one.a, one.b) for one in getattr(comparison, section)]


def test_a_version_does_not_differ_from_itself() -> None:
    """No section has a row; every member is counted as alike."""
    one = version(hyperparameters={"leaves": 31})
    found = compare(one, one)
    assert [told(found, section) for section in SECTIONS] == [[]] * len(SECTIONS)
    assert found.same == {"package": 13, "features": 1, "hyperparameters": 1, "environment": 2, "files": 1, "golden": 1}


def test_every_section_names_what_differs() -> None:
    """Added, taken away, changed: None stands where a side has no such member."""
    training = DataSummary(rows=10, digest="sha256:" + "a" * 64, columns=["hour"])
    a = version({"hour": "int", "day": "int"}, hyperparameters={"leaves": 31, "seed": 1}, metrics={"brier": 0.2})
    b = version(
        {"hour": "float", "month": "int"},
        training=training,
        form="skops",
        hyperparameters={"leaves": 31, "depth": 3},
        metrics={"brier": 0.1, "auc": 0.9},
        environment=Environment(python="3.13.1", libraries={"numpy": "2.4.6", "scipy": "1.17"}, variables=["TOKEN"]),
        files=[FileEntry(path="model.txt", size=1, sha256="2" * 64), FileEntry(path="more.txt", size=5, sha256="3" * 64)],
    )
    found = compare(a, b)
    assert told(found, "package") == [
        ("form", "compiled", "skops"),
        ("training data", None, training.digest),
        ("training rows", None, 10),
    ]
    assert [name for name, _, _ in told(found, "features")] == ["day", "hour", "month"]
    assert told(found, "hyperparameters") == [("depth", None, 3), ("seed", 1, None)]
    assert told(found, "metrics") == [("auc", None, 0.9), ("brier", 0.2, 0.1)]
    assert told(found, "environment") == [("TOKEN", None, "needed"), ("python", "3.11.7", "3.13.1"), ("scipy", None, "1.17")]
    # Equal sizes hide other bytes: the file is named all the same.
    assert told(found, "files") == [("model.txt", 1, 1), ("more.txt", None, 5)]
    assert (found.a.golden_rows, found.b.training_rows, found.b.size_bytes) == (1, 10, 6)


def test_golden_rows_are_matched_by_their_values() -> None:
    """Rows that both have: other answers are told, answers within the tolerance are alike, other rows do not count."""

    def rows(*answers: tuple[int, float]) -> list[GoldenRow]:
        return [
            GoldenRow(row={"hour": hour}, expected=Prediction(prediction="no", scores=[score, 1 - score]))
            for hour, score in answers
        ]

    found = compare(
        version(golden=rows((1, 0.7), (2, 0.6), (3, 0.9))), version(golden=rows((2, 0.5), (1, 0.7 + 1e-12), (9, 0.9)))
    )
    assert [one.name for one in found.golden] == ["row 1"]
    assert found.same["golden"] == 1


def test_equal_values_of_other_types_differ() -> None:
    """1, 1.0 and true are three settings."""
    found = compare(version(hyperparameters={"a": 1, "b": 1}), version(hyperparameters={"a": 1.0, "b": True}))
    assert [one.name for one in found.hyperparameters] == ["a", "b"]


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=3))


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=6), st.dictionaries(st.text(max_size=4), VALUES, max_size=6))
def test_the_other_way_round_is_the_mirror_image(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Sides change places, changes their sign; alike and different members together are all there are."""
    there, back = (compare(version(hyperparameters=one), version(hyperparameters=other)) for one, other in ((a, b), (b, a)))
    assert told(there, "hyperparameters") == [(name, second, first) for name, first, second in told(back, "hyperparameters")]
    assert len(there.hyperparameters) + there.same["hyperparameters"] == len({*a, *b})
