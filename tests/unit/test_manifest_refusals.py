"""Manifests of strangers: whatever their bytes say, they are refused by name or read as they stand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import MANIFEST, FileEntry, Manifest, digest_of
from quarterdeck.plan import VersionRef
from quarterdeck.schema import Feature, Schema
from tests.models import version_encoding_model


@pytest.fixture(scope="module")
def raw() -> bytes:
    """The bytes of a good manifest."""
    return version_encoding_model(1).manifest.canonical()


def refusal(raw: bytes, expected: str | None = None) -> PackageRefused:
    """How bytes are refused."""
    with pytest.raises(PackageRefused) as caught:
        Manifest.parse(raw, expected)
    assert caught.value.extra["place"] == MANIFEST
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("member", ["hyperparameters", "metrics", "search_space"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', "1" * 5000])
def test_numbers_and_texts_that_json_cannot_say_are_refused(raw: bytes, member: str, value: str) -> None:
    """Readers of JSON take more than its writers give: such a manifest is refused, and raises nothing else."""
    changed = json.loads(raw) | {member: {"it": "here"}}
    text = json.dumps(changed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).replace('"here"', value)
    assert refusal(text.encode()).code == "manifest-invalid"


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_by_name(found: bytes) -> None:
    """Not a traceback whatever lies in the store."""
    assert refusal(found).code == "manifest-invalid"


@given(st.data())
def test_any_changed_byte_is_refused_or_another_manifest(data: st.DataObject) -> None:
    """Without a known digest a changed manifest is either refused, or a different one with a different digest."""
    good = version_encoding_model(1).manifest.canonical()
    place = data.draw(st.integers(0, len(good) - 1))
    changed = good[:place] + data.draw(st.binary(max_size=2)) + good[place + 1 :]
    try:
        found = Manifest.parse(changed)
    except PackageRefused:
        return
    assert found.canonical() == changed
    assert (found.digest == digest_of(good)) is (changed == good)


def test_the_digest_comes_before_the_content(raw: bytes) -> None:
    """Bytes with another digest than the one that was asked for are not looked into."""
    assert refusal(b"no manifest at all", digest_of(raw)).code == "digest-mismatch"
    assert Manifest.parse(raw, digest_of(raw)).digest == digest_of(raw)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../up",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        ".hidden",
        "a/.b",
        "A",
        "a b",
        "a\\b",
        "a\n",
        "a\x00",
        "ü",
        "a..b",
    ],
)
def test_package_paths_are_plain_and_inside(path: str) -> None:
    """No way out, nothing hidden, nothing that two systems would read differently, and no line feed at the end."""
    with pytest.raises(ValidationError):
        FileEntry(path=path, size=0, sha256=64 * "0")


@pytest.mark.parametrize("path", ["model.txt", "data/training.parquet", "a", "0/1/2", "a-b_c.d"])
def test_good_package_paths(path: str) -> None:
    """Lower-case letters, digits, dots, dashes and underscores between slashes."""
    assert FileEntry(path=path, size=0, sha256=64 * "0").path == path


@pytest.mark.parametrize(
    "change",
    [{"sha256": "0" * 63}, {"sha256": "A" * 64}, {"sha256": "0" * 64 + "\n"}, {"size": -1}, {"size": 1.5}, {"more": 1}],
)
def test_file_entries_are_exact(change: dict[str, Any]) -> None:
    """A digest has one spelling, a size is a whole number, and there are no further members."""
    with pytest.raises(ValidationError):
        FileEntry.model_validate({"path": "a", "size": 0, "sha256": 64 * "0"} | change)


@pytest.mark.parametrize(
    "digest", ["sha256:" + 63 * "0", 64 * "0", "sha256:" + 64 * "G", "md5:" + 64 * "0", "sha256:" + 64 * "0" + "\n"]
)
def test_a_reference_names_a_whole_digest(digest: str) -> None:
    """A version is named by bytes, not by a beginning of their digest."""
    with pytest.raises(ValidationError):
        VersionRef(model="m", version=1, digest=digest)


def test_a_manifest_knows_its_size_and_files(raw: bytes) -> None:
    """Sizes add up; a file that is not listed is refused by its path, with the next step."""
    manifest = Manifest.parse(raw)
    assert manifest.size == sum(entry.size for entry in manifest.files)
    assert manifest.file(manifest.files[0].path) == manifest.files[0]
    with pytest.raises(PackageRefused) as caught:
        manifest.file("data/other")
    assert (caught.value.code, caught.value.extra, bool(caught.value.hint)) == ("file-missing", {"place": "data/other"}, True)


def test_members_that_say_nothing_do_not_change_the_digest(raw: bytes) -> None:
    """What is None is not written: a member that a later release adds leaves the digests of today's packages alone."""
    assert b"null" not in raw.split(b'"golden"')[0]
    assert "parent" not in json.loads(raw)


@pytest.mark.parametrize("classes", [["a", "a"], [1, True], [0, False, "x"], [1, 1.0]])
def test_classes_are_different_in_the_way_that_answers_are_compared(classes: list[Any]) -> None:
    """1, 1.0 and True are equal: as two classes they would share one label and have two scores."""
    task = "binary" if len(classes) == 2 else "multiclass"
    with pytest.raises(ValidationError, match="unique"):
        Schema(task=task, classes=classes, positive=classes[0], features=[Feature(name="x", type="int")])
