"""Versions from store to store: everything that is missing and nothing else, compared with its digest on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quarterdeck.copying import Copied, check_stored, copy_version
from quarterdeck.errors import Conflict, PackageRefused, StorageError
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck.storage.memory import MemoryStorage
from tests.models import version_encoding_model
from tests.promotion_world import Breaking


@pytest.fixture
def source(tmp_path: Path) -> Storage:
    """A store with version 1."""
    storage = open_storage(str(tmp_path / "source"))
    version_encoding_model(1).push(storage)
    return storage


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    """An empty store."""
    return open_storage(str(tmp_path / "target"))


@pytest.fixture
def ref() -> VersionRef:
    """The version that is copied."""
    return VersionRef(model="versions", version=1, digest=version_encoding_model(1).manifest.digest)


def test_a_copy_is_the_version_itself(source: Storage, target: Storage, ref: VersionRef, tmp_path: Path) -> None:
    """Same number, same digest, every file; nothing is left in the folder for what is on its way."""
    manifest = version_encoding_model(1).manifest
    assert copy_version(source, target, ref, tmp_path / "spare") == Copied(len(manifest.files), manifest.size)
    assert check_stored(target, ref) == manifest
    assert target.get(manifest_key("versions", 1)) == manifest.canonical()
    assert list((tmp_path / "spare").iterdir()) == []


def test_a_second_copy_moves_nothing(source: Storage, target: Storage, ref: VersionRef, tmp_path: Path) -> None:
    """Whoever was interrupted simply copies again."""
    copy_version(source, target, ref, tmp_path / "spare")
    assert copy_version(source, target, ref, tmp_path / "spare") == Copied(0, 0)
    assert copy_version(source, source, ref, tmp_path / "spare") == Copied(0, 0)


def test_a_copy_that_breaks_shows_no_version_until_it_is_whole(source: Storage, ref: VersionRef, tmp_path: Path) -> None:
    """At whichever write it breaks: the manifest is not there before all files are, and the next try completes it."""
    writes = len(version_encoding_model(1).manifest.files) + 1
    for at in range(1, writes + 1):
        target = Breaking(at)
        with pytest.raises(StorageError, match="lost"):
            copy_version(source, target, ref, tmp_path / "spare")
        assert target.size(manifest_key("versions", 1)) is None
        copy_version(source, target, ref, tmp_path / "spare")
        check_stored(target, ref)


def test_a_number_that_is_taken_is_a_conflict_that_names_both(
    source: Storage, target: Storage, ref: VersionRef, tmp_path: Path
) -> None:
    """Another package has that number there: nothing is overwritten."""
    other = version_encoding_model(2).push(target, 1)
    with pytest.raises(Conflict, match="another versions v1") as raised:
        copy_version(source, target, ref, tmp_path / "spare")
    assert raised.value.code == "version-taken"
    assert other.digest in raised.value.detail
    assert ref.digest in raised.value.detail
    check_stored(target, other)


def test_a_number_that_is_taken_meanwhile_is_a_conflict(source: Storage, ref: VersionRef, tmp_path: Path) -> None:
    """Somebody else publishes under the number between the look and the write."""

    class Late(MemoryStorage):
        def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
            if key.endswith("manifest.json") and not self.size(key):
                super().put(key, version_encoding_model(2).manifest.canonical())
            return super().put(key, data, if_absent=if_absent)

    with pytest.raises(Conflict, match="another versions v1"):
        copy_version(source, Late("late"), ref, tmp_path / "spare")


def _damages(storage: Storage) -> Iterator[tuple[str, str, str]]:
    first = version_encoding_model(1).manifest.files[0]
    yield blob_key(first.sha256), "file-missing", first.path
    yield blob_key(first.sha256), "digest-mismatch", first.path
    yield manifest_key("versions", 1), "file-missing", "manifest.json"
    yield manifest_key("versions", 1), "digest-mismatch", "manifest.json"


def test_what_is_not_what_was_published_is_neither_copied_nor_passed(
    source: Storage, target: Storage, ref: VersionRef, tmp_path: Path
) -> None:
    """A file or the manifest is missing or was changed: refused by name, and the target shows no version."""
    for key, code, place in _damages(source):
        whole = source.get(key)
        source.delete(key)
        if code == "digest-mismatch":
            source.put(key, whole[:-1] + b"x")
        for attempt in (lambda: copy_version(source, target, ref, tmp_path / "spare"), lambda: check_stored(source, ref)):
            with pytest.raises(PackageRefused) as raised:
                attempt()
            assert (raised.value.code, raised.value.extra["place"]) == (code, place)
        assert target.size(manifest_key("versions", 1)) is None
        source.put(key, whole)
