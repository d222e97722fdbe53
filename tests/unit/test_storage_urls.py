"""URLs of stores: which ones lead where, which are refused, and that none ever carries or shows a secret."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput, StorageError
from quarterdeck.schema import NAME_PATTERN
from quarterdeck.storage import open_storage
from quarterdeck.storage.folder import FolderStorage
from quarterdeck.storage.keys import (
    blob_key,
    check_key,
    check_prefix,
    dataset_name,
    manifest_key,
    records_prefix,
    versions_prefix,
)
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck.storage.protocol import PROBE, prove
from quarterdeck.storage.s3 import S3Storage

SECRET = "c0ffee-s3cret"


@pytest.mark.parametrize(
    ("url", "bucket", "canonical"),
    [
        ("s3://bucket", "bucket", "s3://bucket"),
        ("s3://bucket/", "bucket", "s3://bucket"),
        ("s3://my.bucket-1/a/b/", "my.bucket-1", "s3://my.bucket-1/a/b"),
        ("s3://bucket/a%2Db", "bucket", "s3://bucket/a-b"),
        ("s3://bucket?region=eu-west-1", "bucket", "s3://bucket?region=eu-west-1"),
        ("s3://bucket/p?endpoint=http://127.0.0.1:9000/", "bucket", "s3://bucket/p?endpoint=http://127.0.0.1:9000"),
        ("s3://bucket?endpoint=http://[::1]:9000", "bucket", "s3://bucket?endpoint=http://[::1]:9000"),
        ("s3://bucket?endpoint=https%3A%2F%2Fs3.example&region=x", "bucket", "s3://bucket?endpoint=https://s3.example&region=x"),
        ("s3://bucket?endpoint=&region=", "bucket", "s3://bucket"),
    ],
)
def test_s3_urls_have_one_spelling(url: str, bucket: str, canonical: str) -> None:
    """Nothing is contacted; the store's own URL leads to it again, and is the same from then on."""
    store = open_storage(url)
    assert isinstance(store, S3Storage)
    assert (store.bucket, store.url) == (bucket, canonical)
    assert open_storage(store.url).url == canonical


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/p", f"s3://{SECRET}@bucket", f"s3://bucket?endpoint=http://user:{SECRET}@host",
        f"s3://bucket?endpoint=http://:{SECRET}@host", f"s3://bucket?secret={SECRET}", f"s3://bucket#{SECRET}",
        f"s3://bucket?endpoint=http://host/?token={SECRET}", f"s3://bucket?endpoint=http://host%23{SECRET}",
        f"s3://bucket:{SECRET}", f"ftp://user:{SECRET}@host/x", f"file://{SECRET}@host/x",
    ],
)  # fmt: skip
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    """A URL is stored and shown, so nothing secret gets into one; the refusal says where credentials belong."""
    with pytest.raises(InvalidInput) as caught:
        open_storage(url)
    assert SECRET not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "", "s3://", "s3://ab", "s3://Bucket", "s3://bucket_x", "s3://bucket-", "s3:///prefix", "s3://bucket:80/p", "s3://[x/p",
        "s3://bucket/a//b", "s3://bucket/../up", "s3://bucket/%2e%2e/up", "s3://bucket/.hidden", "s3://bucket/a b",
        "s3://bucket?endpoint=host:9000", "s3://bucket?endpoint=ftp://host", "s3://bucket?endpoint=http://",
        "s3://bucket?endpoint=http://host:port", "s3://bucket?endpoint=http://host:99999", "s3://bucket?endpoint=http://[::1",
        "s3://bucket?Endpoint=http://host", "http://host/x", "gs://bucket", "S3://bucket", "a\0b",
        "file://host/x", "file:///x?y=1", "file:///x#y", "file://", "file://[x", "~no-such-user-here/store",
    ],
)  # fmt: skip
def test_urls_that_name_no_store_are_refused(url: str) -> None:
    """One kind of error with the next step for all of them, whichever parser notices first."""
    with pytest.raises(InvalidInput) as caught:
        open_storage(url)
    assert caught.value.hint


@given(st.text(max_size=30))
def test_any_text_is_a_store_or_a_refusal(text: str) -> None:
    """Opening never fails in another way, whatever somebody wrote into a setting."""
    for url in (text, f"s3://bucket/{text}", f"s3://bucket?endpoint={text}", f"s3://{text}", f"file://{text}", f"~{text}"):
        try:
            store = open_storage(url)
        except InvalidInput:
            continue
        assert open_storage(store.url).url == store.url


@pytest.mark.parametrize("name", ["plain", "with space", "ü", "a%20b", "a#b?c", "a:b"])
def test_folders_of_any_name_have_a_url(name: str, tmp_path: Path) -> None:
    """A folder's URL leads to the very folder, whatever is in its name."""
    first = open_storage(tmp_path / name)
    first.put("key", b"1")
    again = open_storage(first.url)
    assert isinstance(again, FolderStorage)
    assert (again.root, again.get("key")) == (tmp_path / name, b"1")
    assert open_storage(f"file://localhost{quote(str(tmp_path / name))}").get("key") == b"1"


def test_a_relative_folder_means_the_same_after_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is absolute from the beginning: it is handed to other processes, which stand elsewhere."""
    monkeypatch.chdir(tmp_path)
    assert open_storage("store").url == (tmp_path / "store").as_uri()


def test_a_store_in_memory_is_one_by_its_name() -> None:
    """Two openings of one name share what is in it; names do not share."""
    open_storage("memory://urls-one").put("k", b"1")
    assert open_storage("memory://urls-one").get("k") == b"1"
    assert open_storage("memory://urls-two").size("k") is None


def test_what_is_put_is_a_copy() -> None:
    """A buffer that is filled again changes nothing that is stored."""
    store, buffer = MemoryStorage(), bytearray(b"first")
    view: Any = buffer
    store.put("k", view)
    buffer[:] = b"other"
    assert store.get("k") == b"first"


segments = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._=-]{0,20}", fullmatch=True)


@given(st.lists(segments, min_size=1, max_size=5))
def test_good_keys_are_prefixes_too(parts: list[str]) -> None:
    """A key starts with each of its beginnings, with and without the slash."""
    key = "/".join(parts)
    assert check_key(key) == check_prefix(key) == key
    for end in range(len(parts)):
        assert check_prefix("".join(f"{part}/" for part in parts[:end])) == "".join(f"{part}/" for part in parts[:end])


@given(st.text(max_size=20), st.integers(-5, 10**9))
def test_made_keys_are_keys_or_refusals(name: str, version: int) -> None:
    """Every key that is made of names and numbers is one that every store takes, and its prefix is a prefix."""
    try:
        key = manifest_key(name, version)
    except InvalidInput:
        return
    assert check_key(key).startswith(check_prefix(versions_prefix(name)))
    assert check_prefix(records_prefix(name, "main")) != check_prefix(records_prefix(name, "challenger"))


NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)


@given(NAMES, st.just("") | NAMES)
def test_a_data_set_is_one_deployments_in_one_namespace(name: str, namespace: str) -> None:
    """Deployment and namespace can be read off its name, so no two of them share one, and the name makes a prefix."""
    dataset = dataset_name(name, namespace)
    assert dataset.split(".") == ([namespace, name] if namespace else [name])
    assert check_prefix(records_prefix(dataset, "main")) == f"records/{dataset}/main/"


@pytest.mark.parametrize("dataset", ["", ".a", "a.", "a.b.c", "a/b", "..", "A.b"])
def test_what_is_no_data_set_has_no_prefix(dataset: str) -> None:
    """One dot at most, and a name on each side of it."""
    with pytest.raises(InvalidInput):
        records_prefix(dataset, "main")


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "sha256:" + "0" * 64, "0" * 64 + "\n"])
def test_a_blob_is_named_by_a_bare_digest(sha256: str) -> None:
    """One spelling, so that equal files are stored once."""
    with pytest.raises(InvalidInput) as caught:
        blob_key(sha256)
    assert caught.value.hint


class Forgetful(MemoryStorage):
    """A store that answers every write with yes and keeps nothing."""

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Nothing is kept but the probe of the first moment."""
        super().put(key, b"something else")
        return True


class Obliging(MemoryStorage):
    """A store that ignores the condition of a conditional write."""

    def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
        """Whoever comes last wins."""
        return super().put(key, data)


@pytest.mark.parametrize(("kind", "words"), [(Forgetful, "does not give back"), (Obliging, "conditional writes")])
def test_a_store_that_breaks_its_promises_is_found_out(kind: type[MemoryStorage], words: str) -> None:
    """Before anything lies in it: two publishers would win one number, or nobody would find what was written."""
    with pytest.raises(StorageError, match=words) as caught:
        prove(kind("broken"))
    assert caught.value.hint
    assert PROBE == "checks/probe"


@pytest.mark.parametrize(
    ("moment", "expected"),
    [(datetime(2026, 11, 21, 7, tzinfo=UTC), "dt=2026-11-21/hh=07"), (datetime(1, 1, 1, tzinfo=UTC), None)],
)
def test_partitions_are_keys(moment: datetime, expected: str | None) -> None:
    """The equals sign of a partition is legal in a key."""
    key = f"{records_prefix('late', 'main')}{moment:dt=%Y-%m-%d/hh=%H}/x.parquet"
    assert check_key(key) == key
    assert expected is None or expected in key
