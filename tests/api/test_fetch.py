"""Fetching a package: resumed after every kind of cut, verified to the last byte, and never half visible."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from quarterdeck import verify
from quarterdeck.errors import PackageRefused, StorageError
from quarterdeck.fetch import discard, fetch_package, forget
from quarterdeck.manifest import Manifest, digest_of
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck.storage.memory import MemoryStorage
from quarterdeck.storage.s3 import READ, Patience, S3Storage
from tests.faultproxy import FaultProxy, Toxics, proxied
from tests.s3 import S3Server
from tests.support import ROOT, eventually, free_port

SEED = 20261121
BIG = 700_001
IMPATIENT = Patience(connect=0.5, read=0.5, tries=1, window=0.5, floor=1 << 16)


def some_bytes(size: int, seed: int = SEED) -> bytes:
    """Bytes without a pattern, the same in every run."""
    return random.Random(seed).randbytes(size)


def manifest_of(files: dict[str, bytes], **changes: object) -> bytes:
    """A manifest's canonical bytes for some files; fetching never looks at what they mean."""
    entries = [{"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for path, data in files.items()]
    document = {
        "model": "m",
        "form": "compiled",
        "schema": {"task": "regression", "features": [{"name": "x", "type": "float"}]},
        "files": entries,
        "environment": {"python": "3.11.7"},
        "golden": [{"row": {"x": 1.0}, "expected": {"prediction": 2.0}}],
        **changes,
    }
    return Manifest.model_validate_json(json.dumps(document)).canonical()


def publish(storage: Storage, files: dict[str, bytes], version: int = 1) -> VersionRef:
    """Put a package into a store as a publisher does: blobs first."""
    raw = manifest_of(files)
    for data in files.values():
        storage.put(blob_key(hashlib.sha256(data).hexdigest()), data)
    storage.put(manifest_key("m", version), raw)
    return VersionRef(model="m", version=version, digest=digest_of(raw))


FILES = {"model.txt": some_bytes(BIG), "data/training.bin": some_bytes(5000, 1), "empty": b"", "data/same": some_bytes(5000, 1)}


def assert_whole(folder: Path, files: dict[str, bytes] = FILES) -> None:
    """The folder holds the manifest and these files, and nothing else."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found.pop("manifest.json") == manifest_of(files)
    assert found == files


CHILD = """
import pathlib, resource, sys
from quarterdeck.errors import StorageError
from quarterdeck.fetch import fetch_package
from quarterdeck.plan import VersionRef
from quarterdeck.storage import open_storage
url, ref, cache, limit = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    fetch_package(open_storage(url), VersionRef.model_validate_json(ref), pathlib.Path(cache))
except StorageError as error:
    print(error.code, error.retryable)
"""


def fetching(url: str, ref: VersionRef, cache: Path, limit: int = 1 << 30, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """A process of its own that fetches, and whose files cannot grow over `limit` bytes."""
    arguments = [sys.executable, "-c", CHILD, url, ref.model_dump_json(), str(cache), str(limit)]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=stdout)


def leftovers(cache: Path) -> list[str]:
    """What lies in the cache's workshop."""
    return sorted(path.name for path in (cache / "partial").iterdir())


@contextmanager
def watched(caches: Path) -> Iterator[Callable[[], int]]:
    """Look at all caches all the time, from a thread: whatever package is to be seen must be whole. Gives the number of looks."""
    stop = threading.Event()
    looks, half = [0], []

    def look() -> None:
        while not stop.is_set():
            looks[0] += 1
            for folder in caches.glob("*/*"):
                if folder.name == "partial":
                    continue
                try:
                    assert_whole(folder)
                except (AssertionError, OSError) as error:
                    half.append(repr(error))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: looks[0]
    finally:
        stop.set()
        thread.join()
    assert half == []


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that does not exist yet."""
    return tmp_path / "node" / "cache"


@pytest.fixture
def memory() -> MemoryStorage:
    """An empty store without a network."""
    return MemoryStorage("fetch")


class TestOverS3:
    """The real client, a real server, and a sick network in between."""

    @pytest.fixture
    def proxy(self, s3: S3Server) -> Iterator[FaultProxy]:
        """A proxy before the S3 server."""
        with proxied(s3.endpoint) as proxy:
            yield proxy

    @pytest.fixture
    def bucket(self, s3: S3Server) -> str:
        """A bucket for one test."""
        return s3.bucket()

    @pytest.fixture
    def ref(self, s3: S3Server, bucket: str) -> VersionRef:
        """The sample package, published past the proxy."""
        return publish(open_storage(s3.url(bucket)), FILES)

    @pytest.fixture
    def storage(self, proxy: FaultProxy, bucket: str, ref: VersionRef) -> S3Storage:
        """The store as a node sees it: through the proxy, and without much patience."""
        return S3Storage(bucket, endpoint=proxy.url, patience=IMPATIENT)

    @pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
    def test_cut_at_ten_offsets_reads_nothing_but_a_part_twice(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, tmp_path: Path, reset: bool
    ) -> None:
        """Cut anywhere, the next attempt goes on where the bytes end, and what is shown at last is the package."""
        whole = sum(len(data) for data in set(FILES.values()))
        with watched(tmp_path) as looks:
            for offset in [0, 1, 999, 65_535, 65_536, 65_537, BIG // 2, 600_000, BIG - 1, BIG - 4096]:
                cache = tmp_path / str(offset)
                proxy.forget()
                proxy.toxics = Toxics(match="/blobs/", cut_after=offset, reset=reset)
                with pytest.raises(StorageError) as caught:
                    fetch_package(storage, ref, cache)
                assert (caught.value.code, caught.value.retryable) == ("unreachable", True)
                assert not (cache / ref.digest.removeprefix("sha256:")).exists()
                proxy.toxics = Toxics()
                assert_whole(fetch_package(storage, ref, cache))
                assert proxy.body_bytes("/blobs/") <= whole + READ
                assert leftovers(cache) == []
        assert looks() > 0

    def test_a_network_that_always_breaks_still_gets_there(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, cache: Path
    ) -> None:
        """Every response is cut after 50,000 bytes: each attempt adds to what is there."""
        proxy.toxics = Toxics(match="/blobs/", cut_after=50_000)
        attempts = 0
        with pytest.raises(StorageError):
            fetch_package(storage, ref, cache)

        def arrived() -> bool:
            nonlocal attempts
            attempts += 1
            return fetch_package(storage, ref, cache).is_dir()

        eventually(arrived, every=0)
        assert_whole(cache / ref.digest.removeprefix("sha256:"))
        assert attempts <= BIG // 50_000 + 2

    def test_killed_in_the_middle_goes_on_where_it_was(
        self, s3: S3Server, proxy: FaultProxy, bucket: str, ref: VersionRef, cache: Path, storage: S3Storage
    ) -> None:
        """kill -9 leaves the bytes that arrived and no lock; nothing of it is visible as a package."""
        proxy.toxics = Toxics(match="/blobs/", bandwidth=100_000)
        child = fetching(s3.url(bucket, endpoint=proxy.url), ref, cache)
        part = cache / "partial" / f"{hashlib.sha256(FILES['model.txt']).hexdigest()}.part"
        try:
            eventually(lambda: part.stat().st_size > 100_000)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        arrived = part.stat().st_size
        assert 100_000 < arrived < BIG
        proxy.forget()
        assert_whole(fetch_package(storage, ref, cache))
        assert proxy.body_bytes("/blobs/") <= sum(len(data) for data in set(FILES.values())) - arrived

    @pytest.mark.parametrize(
        "toxics",
        [
            Toxics(match="/blobs/", hang=True),
            Toxics(match="/blobs/", bandwidth=2000),
            Toxics(match="/blobs/", down=True),
            Toxics(match="/models/", hang=True),
        ],
        ids=["hung", "trickling", "down", "hung-at-the-manifest"],
    )
    def test_a_server_that_does_not_answer_is_given_up(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, cache: Path, toxics: Toxics
    ) -> None:
        """Silence and a trickle end as `unreachable`, and waiting may help: it does."""
        proxy.toxics = toxics
        with pytest.raises(StorageError) as caught:
            fetch_package(storage, ref, cache)
        assert (caught.value.code, caught.value.retryable) == ("unreachable", True)
        proxy.forget()
        assert_whole(fetch_package(storage, ref, cache))

    @pytest.mark.parametrize(
        ("status", "code", "retryable"), [(403, "access-denied", False), (500, "store-failed", True), (503, "store-failed", True)]
    )
    def test_refusals_of_the_server_are_named(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, cache: Path, status: int, code: str, retryable: bool
    ) -> None:
        """Each with bucket, action and endpoint; the package is fetched as soon as the server is well again."""
        proxy.toxics = Toxics(match="/blobs/", status=status)
        with pytest.raises(StorageError) as caught:
            fetch_package(storage, ref, cache)
        error = caught.value
        assert (error.code, error.retryable, error.name) == (code, retryable, storage.bucket)
        assert "s3:GetObject" in error.detail
        assert proxy.url in error.detail
        proxy.forget()
        assert_whole(fetch_package(storage, ref, cache))

    @pytest.mark.parametrize("offset", [0, 65_536, BIG - 1])
    def test_a_byte_that_changes_on_the_way_is_refused_by_name(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, cache: Path, offset: int
    ) -> None:
        """What arrived wrong is thrown away, so that the next attempt can be right."""
        proxy.toxics = Toxics(match=hashlib.sha256(FILES["model.txt"]).hexdigest(), flip=offset)
        with pytest.raises(PackageRefused) as caught:
            fetch_package(storage, ref, cache)
        assert (caught.value.code, caught.value.extra["place"]) == ("digest-mismatch", "model.txt")
        proxy.forget()
        assert_whole(fetch_package(storage, ref, cache))

    def test_a_manifest_that_changes_on_the_way_is_refused(
        self, storage: S3Storage, proxy: FaultProxy, ref: VersionRef, cache: Path
    ) -> None:
        """Nothing of a manifest is believed before its digest is right."""
        proxy.toxics = Toxics(match="/models/", flip=40)
        with pytest.raises(PackageRefused) as caught:
            fetch_package(storage, ref, cache)
        assert (caught.value.code, caught.value.extra["place"]) == ("digest-mismatch", "manifest.json")

    def test_wrong_credentials_missing_bucket_nobody_there(self, s3: S3Server, bucket: str, ref: VersionRef, cache: Path) -> None:
        """Three ways to be set up wrongly, three codes."""
        unreachable = S3Storage(bucket, endpoint=f"http://127.0.0.1:{free_port()}", patience=IMPATIENT)
        cases = {"no-such-bucket": open_storage(s3.url("not-a-bucket")), "unreachable": unreachable}
        s3.set_credentials(secret="wrong")
        cases["wrong-credentials"] = open_storage(s3.url(bucket))
        for code, storage in sorted(cases.items(), reverse=True):
            with pytest.raises(StorageError) as caught:
                fetch_package(storage, ref, cache)
            s3.set_credentials()
            assert caught.value.code == code
            assert caught.value.hint


class TestWhole:
    """What is in place is whole, whoever fetches, however often."""

    def test_a_package_is_fetched_once(self, memory: MemoryStorage, cache: Path) -> None:
        """The second call asks the store nothing; progress was told by path."""
        told: list[tuple[str, int, int]] = []
        ref = publish(memory, FILES)
        folder = fetch_package(memory, ref, cache, lambda *step: told.append(step))
        assert folder == cache / ref.digest.removeprefix("sha256:")
        assert_whole(folder)
        verify.check_files(Manifest.parse((folder / "manifest.json").read_bytes(), ref.digest), folder)
        assert ("model.txt", BIG, BIG) in told
        assert fetch_package(MemoryStorage("empty"), ref, cache) == folder
        assert leftovers(cache) == []

    def test_many_at_once_share_the_work(self, memory: MemoryStorage, cache: Path) -> None:
        """Eight threads, two versions with a file in common: both whole, each file read from the store once."""
        reads: list[str] = []

        class Counting(MemoryStorage):
            def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
                reads.append(key)
                return super().stream(key, start)

        storage = Counting()
        other = {"model.txt": FILES["model.txt"], "other": some_bytes(100, 2)}
        refs = [publish(storage, FILES), publish(storage, other, 2)]
        with ThreadPoolExecutor(8) as pool:
            folders = list(pool.map(lambda number: fetch_package(storage, refs[number % 2], cache), range(8)))
        assert_whole(folders[0])
        assert_whole(folders[1], other)
        big = blob_key(hashlib.sha256(FILES["model.txt"]).hexdigest())
        assert reads.count(big) <= 2
        assert leftovers(cache) == []

    @pytest.mark.parametrize("path", ["manifest.json", "model.txt", "data/training.bin"])
    def test_a_damaged_folder_is_replaced(self, memory: MemoryStorage, cache: Path, path: str) -> None:
        """A file that is missing or has another size, or another manifest: the package is fetched anew."""
        ref = publish(memory, FILES)
        folder = fetch_package(memory, ref, cache)
        with (folder / path).open("ab") as file:
            file.write(b"x")
        assert_whole(fetch_package(memory, ref, cache))
        (folder / path).unlink()
        assert_whole(fetch_package(memory, ref, cache))
        (folder / path).unlink()
        (folder / path).symlink_to(os.devnull)
        assert_whole(fetch_package(memory, ref, cache))

    def test_wrong_leftovers_are_thrown_away(self, memory: MemoryStorage, cache: Path) -> None:
        """A part that holds other bytes, or too many of them, costs a second download and no more."""
        ref = publish(memory, FILES)
        for rubbish in (b"rubbish", b"r" * (BIG + 1), b"r" * BIG):
            (cache / "partial").mkdir(parents=True, exist_ok=True)
            (cache / "partial" / f"{hashlib.sha256(FILES['model.txt']).hexdigest()}.part").write_bytes(rubbish)
            assert_whole(fetch_package(memory, ref, cache))
            discard(cache, ref.digest)

    def test_a_part_that_is_a_link_is_not_followed(self, memory: MemoryStorage, cache: Path, tmp_path: Path) -> None:
        """Whoever may write into the cache's folder cannot make us write elsewhere."""
        ref = publish(memory, FILES)
        outside = tmp_path / "outside"
        outside.write_bytes(b"keep")
        (cache / "partial").mkdir(parents=True)
        (cache / "partial" / f"{hashlib.sha256(FILES['model.txt']).hexdigest()}.part").symlink_to(outside)
        with pytest.raises(StorageError) as caught:
            fetch_package(memory, ref, cache)
        assert caught.value.code == "cache-failed"
        assert outside.read_bytes() == b"keep"

    def test_a_part_left_in_an_installed_package_is_not_written(self, memory: MemoryStorage, cache: Path) -> None:
        """After a crash between showing a package and removing its parts, the served file is nobody's scratch paper."""
        ref = publish(memory, FILES)
        served = fetch_package(memory, ref, cache) / "model.txt"
        sha256 = hashlib.sha256(FILES["model.txt"]).hexdigest()
        os.link(served, cache / "partial" / f"{sha256}.part")
        served.write_bytes(FILES["model.txt"][:-1])
        inode = served.stat().st_ino
        fetch_package(memory, publish(memory, {"model.txt": FILES["model.txt"]}, 2), cache)
        assert (served.stat().st_ino, served.stat().st_size) == (inode, BIG - 1)


class TestRefused:
    """What lies wrongly in the store is refused by name, and nothing of it stays."""

    @pytest.mark.parametrize("stored", [b"", FILES["model.txt"][:-1], FILES["model.txt"] + b"x", b"\0" + FILES["model.txt"][1:]])
    def test_a_blob_with_other_bytes(self, memory: MemoryStorage, cache: Path, stored: bytes) -> None:
        """Cut, grown or changed."""
        ref = publish(memory, FILES)
        memory.put(blob_key(hashlib.sha256(FILES["model.txt"]).hexdigest()), stored)
        with pytest.raises(PackageRefused) as caught:
            fetch_package(memory, ref, cache)
        assert (caught.value.code, caught.value.extra["place"], bool(caught.value.hint)) == ("digest-mismatch", "model.txt", True)
        assert not [name for name in os.listdir(cache) if name != "partial"]
        assert f"{hashlib.sha256(FILES['model.txt']).hexdigest()}.part" not in leftovers(cache)

    def test_a_blob_that_is_missing(self, memory: MemoryStorage, cache: Path) -> None:
        """The file is named as the package names it."""
        ref = publish(memory, FILES)
        memory.delete(blob_key(hashlib.sha256(FILES["data/same"]).hexdigest()))
        with pytest.raises(PackageRefused) as caught:
            fetch_package(memory, ref, cache)
        assert caught.value.code == "file-missing"
        assert caught.value.extra["place"] in ("data/same", "data/training.bin")

    def test_a_version_that_is_missing(self, memory: MemoryStorage, cache: Path) -> None:
        """No manifest: the store's own `not-found`."""
        with pytest.raises(StorageError) as caught:
            fetch_package(memory, VersionRef(model="m", version=7, digest="sha256:" + "0" * 64), cache)
        assert (caught.value.code, caught.value.name) == ("not-found", "models/m/7/manifest.json")

    def test_another_manifest_under_the_version(self, memory: MemoryStorage, cache: Path) -> None:
        """A republished version has another digest."""
        ref = publish(memory, FILES)
        publish(memory, {"model.txt": b"other"})
        with pytest.raises(PackageRefused) as caught:
            fetch_package(memory, ref, cache)
        assert caught.value.code == "digest-mismatch"

    @pytest.mark.parametrize(
        "paths",
        [
            *(["../x"], ["/etc/passwd"], ["a/../../x"], ["a//b"], ["./a"], ["a/."], ["A"], ["a\0b"], ["a\\b"], [".hidden"], [""]),
            *(["a", "a"], ["a", "a/b"], ["manifest.json"], ["manifest.json/x"], ["\uff0e\uff0e/x"], ["a#b"], ["%2e%2e/x"]),
        ],
        ids=repr,
    )
    def test_paths_that_lead_elsewhere(self, memory: MemoryStorage, cache: Path, paths: list[str], tmp_path: Path) -> None:
        """A manifest with the right digest and hostile paths is refused before anything is fetched."""
        document = json.loads(manifest_of({}))
        document["files"] = [{"path": path, "size": 1, "sha256": hashlib.sha256(b"x").hexdigest()} for path in paths]
        raw = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        memory.put(manifest_key("m", 1), raw)
        memory.put(blob_key(hashlib.sha256(b"x").hexdigest()), b"x")
        with pytest.raises(PackageRefused) as caught:
            fetch_package(memory, VersionRef(model="m", version=1, digest=digest_of(raw)), cache)
        assert (caught.value.code, caught.value.extra["place"]) == ("manifest-invalid", "manifest.json")
        assert [path.name for path in cache.iterdir()] == ["partial"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["node"]


class TestDisk:
    """A cache whose disk is full or foreign."""

    def test_a_full_disk_is_named_and_left_clean(self, memory: MemoryStorage, cache: Path, tmp_path: Path) -> None:
        """The part that did not fit is removed; the next attempt on a bigger disk succeeds."""
        store = tmp_path / "store"
        ref = publish(open_storage(store), FILES)
        # A limit on file sizes fails write(2) as a full disk does, and needs no rights to set up.
        child = fetching(store.as_uri(), ref, cache, limit=100_000, stdout=subprocess.PIPE)
        said, _ = child.communicate(timeout=60)
        assert said.split() == [b"cache-full", b"True"]
        assert [path.name for path in cache.iterdir()] == ["partial"]
        assert f"{hashlib.sha256(FILES['model.txt']).hexdigest()}.part" not in leftovers(cache)
        assert_whole(fetch_package(open_storage(store), ref, cache))

    def test_a_file_where_the_cache_should_be(self, memory: MemoryStorage, cache: Path) -> None:
        """Named, not a traceback."""
        ref = publish(memory, FILES)
        cache.parent.mkdir()
        cache.write_bytes(b"")
        with pytest.raises(StorageError) as caught:
            fetch_package(memory, ref, cache)
        assert (caught.value.code, bool(caught.value.hint)) == ("cache-failed", True)


class TestForget:
    """The cache stays within its limit without losing what serves."""

    def test_least_recently_fetched_goes_first(self, memory: MemoryStorage, cache: Path) -> None:
        """Kept digests stay whatever their age; the rest goes by age until the limit is met."""
        refs = [publish(memory, {"f": some_bytes(10_000, number)}, number) for number in range(1, 5)]
        for age, ref in enumerate(refs):
            os.utime(fetch_package(memory, ref, cache), (age, age))
        assert forget(cache, [], 1 << 30) == []
        assert forget(cache, [refs[0].digest], 25_000) == [refs[1].digest, refs[2].digest]
        assert sorted(path.name for path in cache.iterdir()) == sorted([*(refs[n].digest[7:] for n in (0, 3)), "partial"])
        assert leftovers(cache) == []

    def test_fetching_again_makes_young(self, memory: MemoryStorage, cache: Path) -> None:
        """What was asked for last is forgotten last."""
        refs = [publish(memory, {"f": some_bytes(10_000, number)}, number) for number in (1, 2)]
        for ref in refs:
            os.utime(fetch_package(memory, ref, cache), (1, 1))
        fetch_package(memory, refs[0], cache)
        assert forget(cache, [], 15_000) == [refs[1].digest]

    def test_broken_fetches_are_cleaned_up(self, memory: MemoryStorage, cache: Path) -> None:
        """Parts that nobody fills go before any package does."""
        ref = publish(memory, FILES)
        fetch_package(memory, ref, cache)
        (cache / "partial" / ("0" * 64 + ".part")).write_bytes(b"x" * 10_000)
        (cache / "partial" / "dead.gone").mkdir()
        assert forget(cache, [], BIG + 15_000) == []
        assert leftovers(cache) == []
