"""The generators of the reference on small inputs: what they find, how they put it, and that they write nothing by chance."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from quarterdeck import errors as quarterdeck_errors
from tools import chart, crds, generate, protocol
from tools.reference import cli, errors, http, metrics, settings, tables
from tools.reference.tables import cell, first_line, model_tables, table, type_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("one\ntwo\n\n three", "one two three"),
        ("a | b", "a \\| b"),
        ("  around  ", "around"),
        ("", ""),
    ],
)
def test_a_cell_never_ends_its_row(text: str, expected: str) -> None:
    """Bars are escaped and line ends become blanks."""
    assert cell(text) == expected


def test_a_table_has_a_line_per_row() -> None:
    """Header, rule, rows; each with as many bars."""
    made = table(["a", "b"], [["1", "x|y"], ["2", "two\nlines"]])
    assert made == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| 2 | two lines |\n"
    assert table(["a"], []) == "| a |\n| --- |\n"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string"}, "string"),
        ({}, "any"),
        ({"const": 1}, "`1`"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string or null"),
        ({"anyOf": [{"type": "string"}, {"type": "string", "pattern": "x"}]}, "string"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"type": "array"}, "list of any"),
        ({"type": "array", "items": {"$ref": "#/$defs/Key"}}, "list of [Key](#key)"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "map to number"),
        ({"type": "object", "additionalProperties": False}, "object"),
        ({"$ref": "#/$defs/Version"}, "[Version](#version)"),
        ({"oneOf": [{"const": "a"}, {"type": "array", "items": {"enum": [1, 2]}}]}, "`a` or list of `1`, `2`"),
    ],
)
def test_types_are_put_into_words(schema: tables.Json, words: str) -> None:
    """Every form of JSON schema that pydantic makes of our fields."""
    assert type_words(schema) == words


class Leaf(BaseModel):
    """The innermost.

    A second paragraph is for readers of the code.
    """

    name: str = Field(description="Its name.")
    kind: Literal["a", "b"] = "a"


class Tree(BaseModel):
    """Holds leaves
    in two ways."""

    leaves: list[Leaf] = Field(default_factory=list, description="All of them.")
    other: Leaf | None = None
    first: Leaf


def test_models_become_tables_once_each_and_in_order() -> None:
    """What is mentioned first comes first, however often it is mentioned; only first paragraphs are told."""
    made = model_tables(Tree, Leaf)
    assert [line for line in made.splitlines() if line.startswith("#")] == ["### Tree", "### Leaf"]
    assert "| `first` | [Leaf](#leaf) | required |  |" in made
    assert "| `other` | [Leaf](#leaf) or null | `null` |  |" in made
    assert '| `kind` | `a`, `b` | `"a"` |  |' in made
    assert "| `name` | string | required | Its name. |" in made
    assert "Holds leaves in two ways." in made
    assert "second paragraph" not in made


def test_the_first_line_is_the_first_paragraph() -> None:
    """On one line; nothing where there are no words."""
    assert first_line(Leaf) == "The innermost."
    assert first_line(Tree) == "Holds leaves in two ways."
    assert first_line(lambda: None) == ""


METRICS = """
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

WHERE = ["deployment", "version"]
answered = Counter("answered", "Rows answered.", [*WHERE, "door"])
waiting = Gauge("waiting", "Rows that wait.")
seconds = Histogram("seconds", "How long.", labelnames=WHERE, buckets=[1, 2])

def collect():
    yield CounterMetricFamily("seen", "Seen.", labels=["node"])
    yield GaugeMetricFamily("age", "Age.", labels=WHERE)
    print("no metric", "of ours")

def others():
    labels = ["model"]
    yield HistogramMetricFamily("sizes", "How many.", labels=[*labels, "reason"])
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that makes series in every way that ours do."""
    (tmp_path / "small_metrics.py").write_text(METRICS)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = __import__("small_metrics")
    yield found
    del sys.modules["small_metrics"]


def test_series_are_found_in_every_way_of_making_them(module: ModuleType) -> None:
    """By exported name (counters end in _total), with kind and labels, sorted."""
    assert [(one.name, one.kind, one.labels, one.meaning) for one in metrics.series(module)] == [
        ("age", "gauge", ["deployment", "version"], "Age."),
        ("answered_total", "counter", ["deployment", "version", "door"], "Rows answered."),
        ("seconds", "histogram", ["deployment", "version"], "How long."),
        ("seen_total", "counter", ["node"], "Seen."),
        ("sizes", "histogram", ["model", "reason"], "How many."),
        ("waiting", "gauge", [], "Rows that wait."),
    ]


def test_a_family_of_an_unknown_kind_is_not_left_out_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever uses a new one hears that the reference must learn it."""
    source = "def collect():\n    yield InfoMetricFamily('build', 'What was built.')\n"
    (tmp_path / "other_metrics.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyError, match="InfoMetricFamily"):
        metrics.series(__import__("other_metrics"))


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('raise Conflict("x", code="no-way")', [("no-way", "Conflict")]),
        ('raise errors.Conflict("x", code="no-way")', [("no-way", "Conflict")]),
        ('raise NotFound("x", code="a-b" if late else "c")', [("a-b", "NotFound"), ("c", "NotFound")]),
        ('raise NotFound("x", code=name)', []),
        ('raise NotFound("x", code="Not A Code")', []),
        ('raise NotFound("x", code="")', []),
        ('raise NotFound("x")', []),
        ('class Gone(NotFound):\n    default_code = "gone"', [("gone", "Gone")]),
        ('class Gone(NotFound):\n    default_code: ClassVar[str] = "gone"', [("gone", "Gone")]),
        ('class Gone(NotFound):\n    other = "gone"', []),
        ('class Gone:\n    default_code = "gone"', []),
    ],
)
def test_codes_are_found_where_they_are_raised(source: str, codes: list[tuple[str, str]]) -> None:
    """By keyword, chosen by a condition, or as a class's own; nothing else looks like one."""
    found = [each for node in ast.walk(ast.parse(source)) for each in errors._mentioned(node, {})]
    assert found == codes


def test_codes_that_are_handed_on_are_found() -> None:
    """A helper that makes an error of the code it is given, by place or by name."""
    source = """
def refuse(code, words):
    return PackageRefused(words, code=code)

refuse("file-missing", "x")
refuse(words="y", code="digest-mismatch")
refuse(other, "z")
accept("never", "w")
"""
    tree = ast.parse(source)
    helpers = dict(errors._helpers(tree))
    assert helpers == {"refuse": (0, "PackageRefused")}
    found = [each for node in ast.walk(tree) for each in errors._handed_on(node, helpers)]
    assert found == [("file-missing", "PackageRefused"), ("digest-mismatch", "PackageRefused")]


@pytest.mark.parametrize(
    ("name", "known"),
    [("Conflict", "Conflict"), ("Gone", "NotFound"), ("Buried", "NotFound"), ("ValueError", ""), ("Stranger", "")],
)
def test_classes_lead_to_a_class_of_errors(name: str, known: str) -> None:
    """Over any number of steps; strangers lead nowhere."""
    bases = {"Gone": "NotFound", "Buried": "Gone", "Stranger": "Exception"}
    statuses = {"Conflict": "409", "NotFound": "404"}
    assert errors._known(name, bases, statuses) == known


def test_every_code_has_a_status_of_its_class() -> None:
    """What the page says of a code is what the class answers with."""
    for code, (classes, statuses) in errors.codes().items():
        named = [getattr(quarterdeck_errors, name.strip("` ")) for name in classes.split(",")]
        assert sorted({str(each.status) for each in named}) == statuses.split(", "), code


def test_variables_are_fields_in_capitals() -> None:
    """With the one prefix."""
    assert settings.variable("ship_seconds") == "QUARTERDECK_SHIP_SECONDS"


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_a_page_is_the_same_twice(name: str) -> None:
    """Sets and dictionaries of whatever order leave no trace; the first line says where it comes from."""
    first = generate.render(name)
    assert first == generate.render(name)
    assert first.startswith(generate.NOTE + "# ")
    assert first.endswith("\n")


def test_generate_writes_every_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And says which."""
    pages = {"one.md": lambda: "# One\n", "two.md": lambda: "# Two\n"}
    monkeypatch.setattr(generate, "PAGES", pages)
    monkeypatch.setattr(generate, "REFERENCE", tmp_path / "docs" / "reference")
    monkeypatch.setattr(protocol, "FOLDER", tmp_path / "api_node")
    monkeypatch.setattr(protocol, "render", lambda: {Path("made_pb2.py"): "made"})
    monkeypatch.setattr(crds, "FOLDER", tmp_path)
    monkeypatch.setattr(crds, "render", lambda: {Path("crds", "made.yaml"): "made"})
    monkeypatch.setattr(chart, "render", dict)
    (tmp_path / "api_node").mkdir()
    generate.main()
    assert (tmp_path / "api_node" / "made_pb2.py").read_text() == "made"
    assert {path.name: path.read_text() for path in (tmp_path / "docs" / "reference").iterdir()} == {
        "one.md": generate.NOTE + "# One\n",
        "two.md": generate.NOTE + "# Two\n",
    }
    assert (tmp_path / "crds" / "made.yaml").read_text() == "made"
    made = ["docs/reference/one.md", "docs/reference/two.md", "api_node/made_pb2.py", "crds/made.yaml"]
    assert capsys.readouterr().out.splitlines() == made


def test_groups_come_before_their_commands() -> None:
    """So that the page reads as the help does; nothing is there twice."""
    found = [tuple(words) for words in cli.commands()]
    assert len(set(found)) == len(found)
    for words in found:
        for length in range(1, len(words)):
            assert found.index(words[:length]) < found.index(words)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#/components/schemas/VersionChoice"}, "VersionChoice"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Label"}}, "list of Label"),
        ({"type": "integer"}, "integer"),
    ],
)
def test_bodies_are_named_without_links(schema: http.Json, words: str) -> None:
    """Their tables are not on the page, so links would lead nowhere."""
    assert http._plain(schema) == words
