"""The YAML of a deployment: what it takes, and how it says no."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.resources import ChallengerRef, MainRef, Metadata, ModelDeployment, Spec, read, read_file

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
DIGEST = "sha256:" + 64 * "0"
names = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\Z")
mains = st.builds(MainRef, name=names, version=st.integers(1, 10**6), trust=st.sampled_from(["data", "code"]))
challengers = st.none() | st.builds(ChallengerRef, model=st.none() | names, version=st.integers(1, 10**6))
printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)
specs = st.builds(Spec, model=mains, challenger=challengers, project=names, description=printable, running=st.booleans())


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
def test_what_is_written_is_read_back(name: str, spec: Spec) -> None:
    """YAML and back again changes nothing."""
    wanted = ModelDeployment(metadata=Metadata(name=name), spec=spec)
    assert read(wanted.to_yaml()) == [wanted]


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
