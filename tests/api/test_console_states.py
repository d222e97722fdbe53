"""The pure middle of the console: words of states, parts of long lists, what a form's text means, the same call for programs."""

from __future__ import annotations

import ast
import json
import shlex
from typing import Any, get_args

import pytest

from quarterdeck.rollout import Condition
from quarterdeck.schema import Feature, FeatureType, Row, Schema
from quarterdeck_deployer.console import pages, trying, words
from quarterdeck_deployer.console.words import Tag
from quarterdeck_deployer.observed import Deployed, Running
from quarterdeck_deployer.revisions import Kind


@pytest.mark.parametrize(
    ("tags", "states"),
    [
        (words.DEPLOYED, get_args(Deployed.model_fields["state"].annotation)),
        (words.RUNNING, get_args(Running.model_fields["state"].annotation)),
    ],
)
def test_every_observed_state_has_a_tag_and_only_yes_is_green(tags: dict[str, Tag], states: tuple[str, ...]) -> None:
    """Each has a word and a shape, so that colour is never needed; unknown looks like nothing that is known."""
    assert set(tags) == set(states)
    assert [word for word, tag in tags.items() if tag.look == "good"] == ["yes"]
    assert all(tag.shape and tag.word == word for word, tag in tags.items())
    assert [tag.look for tag in tags.values()].count("unknown") == 1


def test_every_kind_of_revision_has_a_verb() -> None:
    """A new kind fails here until it has its word."""
    assert set(words.VERBS) == set(get_args(Kind))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "never"),
        (0.0, "0 s ago"),
        (119.0, "119 s ago"),
        (240.0, "4 min ago"),
        (3 * 3600.0, "3 h ago"),
        (9 * 86400.0, "9 d ago"),
    ],
)
def test_ages_are_said_in_one_unit(seconds: float | None, said: str) -> None:
    """Seconds up to two minutes, then the next larger unit."""
    assert words.age(seconds) == said


@pytest.mark.parametrize(
    ("total", "asked", "first", "last", "number"),
    [(0, 1, 1, 0, 1), (50, 1, 1, 50, 1), (51, 2, 51, 51, 2), (51, 9, 51, 51, 2), (120, 0, 1, 50, 1)],
)
def test_long_lists_are_cut_into_pages(total: int, asked: int, first: int, last: int, number: int) -> None:
    """A number beyond the end gives the last page."""
    part = words.slice_of(range(total), asked)
    assert (part.first, part.last, part.number, part.total) == (first, last, number, total)


@pytest.mark.parametrize(
    ("kind", "status", "reason", "shown"),
    [
        ("Ready", "True", "Answering", False),
        ("Ready", "Unknown", "NoNodes", True),
        ("Progressing", "False", "Settled", False),
        ("Progressing", "True", "Loading", True),
        ("Progressing", "False", "Held", True),
        ("ModelLoaded", "False", "GoldenMismatch", True),
        ("RollbackReady", "False", "NothingBefore", False),
        ("ChallengerReady", "False", "NoChallenger", False),
        ("ChallengerReceiving", "False", "SameAsMain", True),
        ("RolledBack", "True", "Rejected", True),
        ("RolledBack", "False", "Never", False),
    ],
)
def test_only_conditions_that_are_somebodys_trouble_are_shown(kind: Any, status: Any, reason: str, shown: bool) -> None:
    """What is fine needs no line."""
    assert pages.is_trouble(Condition(type=kind, status=status, reason=reason, message="")) is shown


def schema(kind: FeatureType, nullable: bool = False) -> Schema:
    """One feature `x`."""
    return Schema(task="regression", features=[Feature(name="x", type=kind, nullable=nullable)])


@pytest.mark.parametrize(
    ("kind", "nullable", "text", "row"),
    [
        ("float", False, "3.5", {"x": 3.5}),
        ("float", True, "", {"x": None}),
        ("int", False, "12", {"x": 12}),
        ("boolean", False, "false", {"x": False}),
        ("string", False, "", {"x": ""}),
        ("string", True, "", {"x": None}),
        ("datetime", False, "2026-11-21T06:00:00Z", {"x": "2026-11-21T06:00:00Z"}),
    ],
)
def test_typed_text_becomes_a_value_of_the_features_type(kind: FeatureType, nullable: bool, text: str, row: Row) -> None:
    """As a door would take it."""
    fields, found = trying.read(schema(kind, nullable), {"f.x": text})
    assert (found, fields[0].problem) == (row, "")


@pytest.mark.parametrize(
    ("kind", "text"), [("float", "x"), ("float", "nan"), ("float", ""), ("int", "1.5"), ("boolean", "maybe")]
)
def test_text_that_means_nothing_is_kept_and_named(kind: FeatureType, text: str) -> None:
    """The field says what it needs; the row goes nowhere."""
    fields, row = trying.read(schema(kind), {"f.x": text})
    assert (row, fields[0].text) == ({}, text)
    assert fields[0].problem


@pytest.mark.parametrize("keyed", [True, False])
def test_the_call_for_programs_says_the_same_in_three_languages(keyed: bool) -> None:
    """Quotes in values survive the shell, and no key stands in the text."""
    row: Row = {"carrier": 'O\'Hare "x"', "hour": 7.0, "wind": None, "holiday": True}
    found = trying.snippets("http://127.0.0.1:8401/deployments/late/predict", "late", row, keyed=keyed)
    assert json.loads(shlex.split(found.curl.replace("\\\n", " "))[-1]) == row
    assert json.loads(shlex.split(found.cli)[-1]) == row
    calls = [node for node in ast.walk(ast.parse(found.python)) if isinstance(node, ast.keyword) and node.arg == "json"]
    assert ast.literal_eval(calls[0].value) == row
    assert all(("QUARTERDECK_KEY" in text) is keyed for text in (found.curl, found.python))
