"""The YAML of a deployment: what it takes, and how it says no."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from quarterdeck.errors import InvalidInput
from quarterdeck.resources import ChallengerRef, ModelDeployment, read, read_file
from tests.specs import DIGEST, names, specs

GOOD = """\
apiVersion: quarterdeck.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: late-flights
spec:
  model: {name: late-flights, version: 1}
  challenger: {version: 2}
  access: public
"""


def test_a_document_is_read() -> None:
    """Everything that is left out takes its default."""
    (found,) = read(GOOD)
    assert found.metadata.name == "late-flights"
    assert found.spec.challenger == ChallengerRef(model=None, version=2)
    assert (found.spec.project, found.spec.running, found.spec.records) == ("default", True, "spooled")


def test_several_documents_are_read_in_order() -> None:
    """Empty documents between separators are nothing."""
    found = read(f"---\n{GOOD}---\n---\n{GOOD.replace('name: late-flights', 'name: second', 1)}")
    assert [each.metadata.name for each in found] == ["late-flights", "second"]


def test_a_version_may_be_named_by_its_digest() -> None:
    """A number, a digest, or both."""
    (found,) = read(GOOD.replace("version: 1", f"digest: '{DIGEST}'"))
    assert (found.spec.model.version, found.spec.model.digest) == (None, DIGEST)


@given(names, specs)
def test_what_is_written_is_read_back(name: str, spec: dict[str, Any]) -> None:
    """YAML and back again changes nothing, and what was left out stays out."""
    wanted = ModelDeployment.model_validate({"metadata": {"name": name}, "spec": spec})
    assert read(wanted.to_yaml()) == [wanted]
    assert set(wanted.document()["spec"]) <= set(spec)


@pytest.mark.parametrize("text", ["y", "N", "1e3", "0o17", "0x1f", "1_000", "12:30:45", "-1", ".5", "2024-01-01", "yes", "null"])
def test_text_that_looks_like_something_else_is_quoted(text: str) -> None:
    """Also where only other readers than ours, kubectl's before all, would take it for a number or a yes."""
    spec = {"model": {"name": "late", "version": 1}, "description": text}
    written = ModelDeployment.model_validate({"metadata": {"name": "late"}, "spec": spec}).to_yaml()
    assert f"description: '{text}'" in written


@pytest.mark.parametrize(
    ("old", "new", "said", "hint"),
    [
        ("version: 1", "verson: 1", "d.yaml:6: spec.model.verson: is not a field", "Did you mean `version`?"),
        ("{version: 2}", "{verion: 2}", "d.yaml:7: spec.challenger.verion: is not a field", "Did you mean `version`?"),
        ("access: public", "zzz: 1", "d.yaml:8: spec.zzz: is not a field", "Fields here are model, challenger"),
        ("  name: late-flights\nspec", "  {}\nspec", "d.yaml:3: metadata.name: is missing", "Add `metadata.name`."),
        (", version: 1", "", "d.yaml:6: spec.model: needs a version or a digest", "resources.md"),
        ("{version: 2}", "{version: 0}", "d.yaml:7: spec.challenger.version: ", "resources.md"),
        ("public", "everybody", "d.yaml:8: spec.access: ", "resources.md"),
        ("v1alpha1", "v9", "d.yaml:1: apiVersion: ", "reads quarterdeck.dev/v1alpha1"),
        ("name: late-flights\nspec", "name: Late Flights\nspec", "d.yaml:4: metadata.name: ", "resources.md"),
        ("kind", "  kind", "d.yaml:2: ", "Indent with spaces"),
        (GOOD, "", "d.yaml holds no document", "apiVersion"),
        (GOOD, "- 1", "d.yaml:1: document: ", "resources.md"),
    ],
)
def test_a_mistake_is_told_by_file_line_and_field(old: str, new: str, said: str, hint: str) -> None:
    """The first thing to mend, where it stands, and what would be right."""
    with pytest.raises(InvalidInput) as caught:
        read(GOOD.replace(old, new, 1), "d.yaml")
    assert caught.value.detail.startswith(said)
    assert hint in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """By the path that the user gave."""
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml cannot be read"):
        read_file(tmp_path / "nowhere.yaml")
