"""Every store keeps the same promises: one table of tests over memory, a folder, and S3 on a real server."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quarterdeck.errors import InvalidInput, StorageError
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.folder import FolderStorage
from quarterdeck.storage.keys import blob_key, manifest_key, records_prefix
from quarterdeck.storage.s3 import CONFLICT_TRIES, PART, Patience, S3Storage
from tests.faultproxy import Toxics, proxied
from tests.s3 import S3Server, running
from tests.support import free_port

STORES = ("memory", "folder", "s3")


@pytest.fixture(params=STORES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """One store of each kind, empty."""
    if request.param == "memory":
        return open_storage(f"memory://{secrets.token_hex(8)}")
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    server: S3Server = request.getfixturevalue("s3")
    return open_storage(server.url(server.bucket(), "some/prefix"))


def test_what_was_put_is_what_is_got(storage: Storage) -> None:
    """Bytes come back as they were, empty ones too, and a second put replaces them."""
    for content in (b"first", b"", bytes(range(256)) * 5000):
        assert storage.put("a/b.bin", content)
        assert storage.get("a/b.bin") == content
        assert b"".join(storage.stream("a/b.bin")) == content
        assert storage.size("a/b.bin") == len(content)


def test_files_are_put_like_bytes(storage: Storage, tmp_path: Path) -> None:
    """A path stands for the bytes of its file."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(300_000))
    assert storage.put("file", source)
    assert storage.get("file") == source.read_bytes()


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, None, b"0123456789"), (3, None, b"3456789"), (3, 4, b"3456"), (8, 9, b"89"), (10, None, b""), (99, 3, b""), (0, 0, b"")],
)
def test_ranges(storage: Storage, start: int, length: int | None, expected: bytes) -> None:
    """A range that reaches over the end, or starts behind it, is cut to what is there."""
    storage.put("digits", b"0123456789")
    assert storage.get("digits", start, length) == expected
    if length is None:
        assert b"".join(storage.stream("digits", start)) == expected


def test_absent_objects(storage: Storage) -> None:
    """Reading what is not there is named; asking for its size, listing and removing are no errors."""
    storage.put("there", b"x")
    for read in (lambda: storage.get("no/such"), lambda: list(storage.stream("no/such"))):
        with pytest.raises(StorageError) as caught:
            read()
        assert (caught.value.code, caught.value.retryable, caught.value.name) == ("not-found", False, "no/such")
    assert storage.size("no/such") is None
    assert storage.size("ther") is None
    assert list(storage.list("no/")) == []
    storage.delete("no/such")


def test_put_if_absent_changes_nothing_that_exists(storage: Storage) -> None:
    """The first wins and stays; after a delete the key is free again."""
    assert storage.put("models/m/1/manifest.json", b"first", if_absent=True)
    assert not storage.put("models/m/1/manifest.json", b"second", if_absent=True)
    assert storage.get("models/m/1/manifest.json") == b"first"
    storage.delete("models/m/1/manifest.json")
    assert storage.put("models/m/1/manifest.json", b"third", if_absent=True)


def test_of_sixteen_racing_publishers_exactly_one_wins(storage: Storage) -> None:
    """A version number belongs to one publisher, whoever else asks at the same moment."""
    barrier = threading.Barrier(16)

    def publish(publisher: int, key: str) -> bool:
        barrier.wait()
        return storage.put(key, b"%d" % publisher * 1000, if_absent=True)

    with ThreadPoolExecutor(16) as pool:
        for version in range(1, 6):
            key = manifest_key("late-flights", version)
            won = list(pool.map(publish, range(16), [key] * 16))
            assert won.count(True) == 1
            assert storage.get(key) == b"%d" % won.index(True) * 1000


def test_listing_is_whole_and_sorted_by_key(storage: Storage) -> None:
    """Folders sort as their keys do: `a.b` before `a/b` before `a0`; prefixes may end inside a name."""
    keys = ["a.b", "a/b", "a/c/d", "a0", "ab/x", "dt=2026-01-02/hh=03/boot-1-2.parquet", "z-1", "z_1"]
    for key in reversed(keys):
        storage.put(key, b"")
    assert list(storage.list("")) == sorted(keys)
    assert list(storage.list("a")) == [key for key in keys if key.startswith("a")]
    assert list(storage.list("a/")) == ["a/b", "a/c/d"]
    assert list(storage.list("a/c/d")) == ["a/c/d"]


def test_listing_goes_over_pages(storage: Storage) -> None:
    """More keys than one page of S3 (1,000) are all listed."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: storage.put(f"many/{number:05}", b""), range(1100)))
    assert list(storage.list("many/")) == [f"many/{number:05}" for number in range(1100)]


def test_check_proves_a_store(storage: Storage) -> None:
    """A working store passes, again and again, and is left with the one probe object."""
    storage.check()
    storage.check()
    assert list(storage.list("")) == ["checks/probe"]


def test_url_leads_to_the_same_store(storage: Storage) -> None:
    """`url` is what another process opens the same store with."""
    storage.put("shared", b"1")
    assert open_storage(storage.url).get("shared") == b"1"
    assert open_storage(storage.url).url == storage.url


HOSTILE = [
    *("", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "./a", "a//b", "a/", "/a", "a/./b", ".incoming/x", "a/.hidden"),
    *(
        "a\\b",
        "a\0b",
        "a\nb",
        "a%2e%2e/b",
        "a#b",
        "a?b",
        "a b",
        "a*b",
        "~/x",
        "\u2024\u2024/x",
        "\uff0e\uff0e/x",
        "é",
        "a" * 2000,
    ),
    *("c:/x", "s3://x/y", "a/" * 300 + "b", "-rf/\r", "$(id)", "`id`", "a;b", "a|b", "{{a}}"),
]


def test_hostile_keys_are_refused_by_every_action(storage: Storage) -> None:
    """No key leaves the store, and the refusal does not repeat it."""
    actions: list[Callable[[str], object]] = [
        storage.get,
        lambda key: list(storage.stream(key)),
        lambda key: storage.put(key, b"x"),
        lambda key: storage.put(key, b"x", if_absent=True),
        storage.size,
        storage.delete,
    ]
    for key in HOSTILE:
        for action in actions:
            with pytest.raises(InvalidInput) as caught:
                action(key)
            assert len(key) < 3 or key not in str(caught.value)
    assert list(storage.list("")) == []


def test_hostile_prefixes_are_refused(storage: Storage) -> None:
    """A listing starts inside the store; only the empty prefix and a trailing slash are more than a key may be."""
    for prefix in set(HOSTILE) - {"", "a/"}:
        with pytest.raises(InvalidInput):
            list(storage.list(prefix))


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a" * 65, "a_b", "-a", "a-", "a\n"])
def test_names_that_are_none_never_become_keys(name: str) -> None:
    """Keys are made from names of the schema's kind, and nothing else."""
    makers: list[Callable[[str], str]] = [lambda name: manifest_key(name, 1), lambda name: records_prefix(name, "main"), blob_key]
    for make in makers:
        with pytest.raises(InvalidInput):
            make(name)


def test_version_numbers_start_at_one() -> None:
    """There is no version 0."""
    with pytest.raises(InvalidInput):
        manifest_key("m", 0)


class TestFolder:
    """What only a folder can do wrong."""

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        """A file beside the store that nobody may touch through it."""
        secret = tmp_path / "outside" / "secret"
        secret.parent.mkdir()
        secret.write_bytes(b"secret")
        return secret

    def test_links_are_never_followed(self, tmp_path: Path, outside: Path) -> None:
        """A planted link to a file or a folder is refused in reading, writing, listing and removing."""
        storage = open_storage(tmp_path / "store")
        storage.put("real/x", b"x")
        (tmp_path / "store/file").symlink_to(outside)
        (tmp_path / "store/folder").symlink_to(outside.parent)
        for key in ("file", "folder/secret"):
            with pytest.raises(StorageError, match="link"):
                storage.get(key)
        for key in ("folder/secret", "folder/new"):
            with pytest.raises(StorageError, match="link"):
                storage.put(key, b"overwritten")
            with pytest.raises(StorageError, match="link"):
                storage.delete(key)
        assert list(storage.list("")) == ["real/x"]
        assert storage.put("file", b"replaces the link itself")
        assert outside.read_bytes() == b"secret"
        assert sorted(path.name for path in outside.parent.iterdir()) == ["secret"]

    def test_a_pipe_in_the_store_does_not_hang_the_reader(self, tmp_path: Path) -> None:
        """What is no regular file is no object."""
        storage = open_storage(tmp_path / "store")
        storage.put("real", b"x")
        os.mkfifo(tmp_path / "store/pipe")
        assert storage.size("pipe") is None

    def test_missing_parent_is_named_and_not_made(self, tmp_path: Path) -> None:
        """A mistyped path or a mount that is not there must not become a new, empty store."""
        storage = open_storage(tmp_path / "not-mounted" / "store")
        for action in (storage.check, lambda: storage.put("a", b""), lambda: storage.get("a"), lambda: list(storage.list(""))):
            with pytest.raises(StorageError) as caught:
                action()
            assert (caught.value.code, caught.value.retryable, bool(caught.value.hint)) == ("no-such-bucket", False, True)
        assert not (tmp_path / "not-mounted").exists()

    def test_failed_write_leaves_nothing(self, tmp_path: Path) -> None:
        """A source that cannot be read leaves neither an object nor a temporary file."""
        storage = open_storage(tmp_path / "store")
        with pytest.raises(StorageError):
            storage.put("a/b", tmp_path / "no-such-file")
        assert list(storage.list("")) == []
        assert list((tmp_path / "store/.incoming").iterdir()) == []

    def test_check_sweeps_what_dead_writers_left(self, tmp_path: Path) -> None:
        """Old temporary files go, young ones may still be written."""
        storage = open_storage(tmp_path / "store")
        storage.check()
        old, young = (tmp_path / "store/.incoming" / name for name in ("old", "young"))
        for path in (old, young):
            path.write_bytes(b"torn")
        os.utime(old, (0, 0))
        storage.check()
        assert (old.exists(), young.exists()) == (False, True)

    def test_file_urls_with_spaces_and_signs(self, tmp_path: Path) -> None:
        """A folder's own URL leads back to it, whatever its name."""
        storage = open_storage(tmp_path / "a b#c%20ü")
        storage.put("x", b"1")
        assert (tmp_path / "a b#c%20ü/x").read_bytes() == b"1"
        assert open_storage(storage.url).get("x") == b"1"


class TestUrls:
    """What is no URL of a store."""

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "",
                "\0",
                "http://host/x",
                "ftp://x",
                "s3://",
                "s3:///prefix",
                "s3://Bucket/x",
                "s3://ab",
                "s3://bucket/../x",
                "file://host/x",
            ),
            *("s3://bucket?versioning=on", "s3://bucket/x#y", "s3://bucket?endpoint=ftp://x"),
        ],
    )
    def test_refused(self, url: str) -> None:
        """Unknown schemes, buckets that cannot be, settings that are none."""
        with pytest.raises(InvalidInput):
            open_storage(url)

    @pytest.mark.parametrize(
        "url",
        [
            "s3://AKIAKEY:hunter22@bucket/x",
            "s3://bucket/x?secret_access_key=hunter22",
            "s3://bucket/x?endpoint=http://user:hunter22@localhost:1",
            "s3://bucket/x?endpoint=http://localhost:1?token=hunter22",
        ],
    )
    def test_secrets_are_refused_and_not_repeated(self, url: str) -> None:
        """URLs are stored and shown, so they may hold no credential; the refusal says where those belong."""
        with pytest.raises(InvalidInput) as caught:
            open_storage(url)
        assert "hunter22" not in str(caught.value.problem())
        assert "AWS_ACCESS_KEY_ID" in caught.value.hint


class TestS3:
    """What only a server can do wrong: each is an error that names bucket, endpoint, action and the next step."""

    @pytest.fixture
    def bucket(self, s3: S3Server) -> str:
        """A bucket on a server that is reached with good credentials."""
        return s3.bucket()

    @staticmethod
    def refusal(storage: Storage) -> StorageError:
        """What `check` says; the same code comes from reading and writing."""
        with pytest.raises(StorageError) as caught:
            storage.check()
        for action in (
            lambda: storage.get("a"),
            lambda: storage.put("a", b"x"),
            lambda: list(storage.list("")),
            lambda: storage.size("a"),
        ):
            with pytest.raises(StorageError) as again:
                action()
            assert again.value.code == caught.value.code
            assert again.value.hint
        return caught.value

    def test_missing_bucket(self, s3: S3Server) -> None:
        """Named with the endpoint; waiting does not help."""
        error = self.refusal(open_storage(s3.url("no-such-bucket-here")))
        assert (error.code, error.retryable, error.name) == ("no-such-bucket", False, "no-such-bucket-here")
        assert s3.endpoint in error.detail

    def test_unknown_access_key(self, s3: S3Server, bucket: str) -> None:
        """The account is not known."""
        s3.set_credentials(access="somebody")
        assert self.refusal(open_storage(s3.url(bucket))).code == "wrong-credentials"

    def test_wrong_secret_is_not_repeated(self, s3: S3Server, bucket: str) -> None:
        """The signature does not match; neither the secret nor the key's id is in the error."""
        s3.set_credentials(secret="hunter22hunter22")
        error = self.refusal(open_storage(s3.url(bucket)))
        assert error.code == "wrong-credentials"
        assert "hunter22" not in str(error.problem())
        assert s3.access not in str(error.problem())
        assert "AWS_ACCESS_KEY_ID" in error.hint

    def test_no_credentials_at_all(self, s3: S3Server, bucket: str) -> None:
        """Nothing in the chain: said before anything is sent."""
        s3.credentials.write_text("")
        error = self.refusal(open_storage(s3.url(bucket)))
        assert (error.code, "AWS_SECRET_ACCESS_KEY" in error.hint) == ("wrong-credentials", True)

    def test_new_credentials_count_without_a_restart(self, s3: S3Server, bucket: str) -> None:
        """A store that was refused reads a rotated credentials file with its next action."""
        storage = open_storage(s3.url(bucket))
        s3.set_credentials(secret="not-yet-rotated")
        assert self.refusal(storage).code == "wrong-credentials"
        s3.set_credentials()
        storage.check()

    def test_nobody_listens(self, s3: S3Server, bucket: str) -> None:
        """The endpoint is named, and waiting may help."""
        endpoint = f"http://127.0.0.1:{free_port()}"
        storage = S3Storage(bucket, endpoint=endpoint, patience=Patience(connect=0.5, read=0.5, tries=1))
        error = self.refusal(storage)
        assert (error.code, error.retryable, endpoint in error.detail) == ("unreachable", True, True)

    def test_settings_from_the_environment(self, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """AWS_ENDPOINT_URL_S3 stands for the endpoint in the URL."""
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
        open_storage(f"s3://{bucket}/p").check()
        assert (s3.folder / bucket / "p/checks/probe").is_file()

    def test_a_lost_answer_is_not_a_lost_race(self, s3: S3Server, bucket: str) -> None:
        """The request that is sent again finds the object that the first one stored: that is ours, and we won."""
        with proxied(s3.endpoint) as proxy:
            storage = open_storage(s3.url(bucket, endpoint=proxy.url))
            proxy.toxics = Toxics(match="PUT", swallow=True, times=1)
            assert storage.put("models/m/1/manifest.json", b"ours", if_absent=True)
            assert len(proxy.exchanges) > 1
            proxy.forget()
            proxy.toxics = Toxics(match="PUT", status=503, times=1)
            assert not storage.put("models/m/1/manifest.json", b"theirs", if_absent=True)
            assert storage.get("models/m/1/manifest.json") == b"ours"

    def test_a_conflict_with_a_writer_in_flight_is_asked_again(self, s3: S3Server, bucket: str) -> None:
        """409 is no answer to who won; it is asked a bounded number of times."""
        with proxied(s3.endpoint) as proxy:
            storage = open_storage(s3.url(bucket, endpoint=proxy.url))
            proxy.toxics = Toxics(match="PUT", status=409, times=2)
            assert storage.put("k", b"x", if_absent=True)
            proxy.forget()
            proxy.toxics = Toxics(match="PUT", status=409)
            with pytest.raises(StorageError) as caught:
                storage.put("other", b"x", if_absent=True)
            assert (caught.value.code, caught.value.retryable, len(proxy.exchanges)) == ("store-failed", True, CONFLICT_TRIES)

    def test_a_store_that_ignores_conditions_is_refused(self, tmp_path: Path) -> None:
        """A server that overwrites on If-None-Match would give one version number to two publishers."""

        class Overwriting(FolderStorage):
            def put(self, key: str, data: bytes | Path, *, if_absent: bool = False) -> bool:
                return super().put(key, data)

        with pytest.raises(StorageError, match="If-None-Match") as caught:
            Overwriting(tmp_path / "store").check()
        assert not caught.value.retryable

    def test_big_files_go_in_parts_and_appear_whole(self, s3: S3Server, bucket: str, tmp_path: Path) -> None:
        """Above one part's size the condition is decided at the end, and the loser's parts are gone."""
        storage = open_storage(s3.url(bucket))
        source = tmp_path / "big"
        with source.open("wb") as file:
            file.truncate(PART + 5)
            file.seek(PART - 2)
            file.write(b"across")
        assert storage.put("big", source, if_absent=True)
        assert storage.size("big") == PART + 5
        assert storage.get("big", PART - 3, 8) == b"\0across\0"
        assert not storage.put("big", source, if_absent=True)
        assert list(storage.list("")) == ["big"]


class TestTls:
    """A server behind a certificate that no public authority signed."""

    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[S3Server]:
        """A server of its own with a self-signed certificate."""
        with running(tmp_path, tls=True) as server:
            yield server

    def test_ca_bundle_from_the_environment(self, server: S3Server, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """AWS_CA_BUNDLE makes the server trusted; without it the refusal says so."""
        storage = S3Storage(server.bucket(), endpoint=server.endpoint, patience=Patience(tries=1))
        s3.set_credentials(server.access, server.secret)
        with pytest.raises(StorageError) as caught:
            storage.check()
        assert (caught.value.code, "AWS_CA_BUNDLE" in caught.value.hint) == ("unreachable", True)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(server.certificate))
        S3Storage(storage.bucket, endpoint=server.endpoint).check()
