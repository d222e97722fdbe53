"""The schema refuses contradictions, and names are nothing that could be interpreted."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from quarterdeck.schema import Feature, Name, Schema

FEATURE = {"name": "distance", "type": "float"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": []}, "at least 1 item"),
        ({"features": [FEATURE, FEATURE]}, "unique"),
        ({"features": [{**FEATURE, "type": "complex"}]}, "float"),
        ({"features": [{**FEATURE, "unit": "miles"}]}, "Extra inputs"),
        ({"task": "ranking"}, "binary"),
        ({"task": "regression"}, "no classes"),
        ({"classes": ["no"]}, "exactly two"),
        ({"classes": ["no", "maybe", "yes"]}, "exactly two"),
        ({"positive": "maybe"}, "one of the two"),
        ({"positive": None}, "one of the two"),
        ({"task": "multiclass", "positive": None}, "three classes or more"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], words: str) -> None:
    """Each contradiction between task, classes and features is named."""
    good = {"task": "binary", "classes": ["no", "yes"], "positive": "yes", "features": [FEATURE]}
    Schema.model_validate(good)
    with pytest.raises(ValidationError, match=words):
        Schema.model_validate({**good, **change})


def test_names_keep_the_order_of_the_columns() -> None:
    """Feature names come in the model's column order, not sorted."""
    schema = Schema(task="regression", features=[Feature(name=name, type="int") for name in ("z", "a", "m")])
    assert schema.names == ["z", "a", "m"]


@pytest.mark.parametrize("name", ["a", "late-flights", "9", "a" * 63])
def test_good_names(name: str) -> None:
    """Lower-case letters, digits, dashes; 1 to 63 of them."""
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "..", "a.b", "a b", "é", "a\n", "a" * 64, "%2e", "a\0"])
def test_bad_names(name: str) -> None:
    """Nothing that a path, a URL or a shell would interpret is a name."""
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)
