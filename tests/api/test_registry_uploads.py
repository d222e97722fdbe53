"""Publishing through the API: file by file under their digests, the manifest last; interrupted, damaged, repeated, at once."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.client import Client
from quarterdeck.errors import Conflict, InvalidInput, PackageRefused
from quarterdeck.manifest import FileEntry, Manifest
from quarterdeck.package_files import pull, write
from quarterdeck.storage.keys import blob_key
from tests.deployer_world import ADMIN, World, manifest, world


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """A deployer with nothing registered."""
    with world(tmp_path / "data") as found:
        yield found


@pytest.fixture
def client(here: World) -> Iterator[Client]:
    """Its Python client, with the admin's token."""
    with Client(str(here.http.base_url), ADMIN) as found:
        yield found


def package(folder: Path, salt: int = 1, **more: Any) -> tuple[Path, Manifest]:
    """A package folder with two real files, one of which every salt has."""
    contents = {"model.txt": b"model %d" % salt, "shared.txt": b"shared by all"}
    files = [FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in contents.items()]
    made = manifest(salt=salt, files=files, **more)
    return write(made, contents, folder / f"package-{salt}"), made


def uploads(here: World) -> list[Path]:
    """What lies on the deployer's disk on its way."""
    folder = here.deployer.settings.data / "uploads"
    return list(folder.iterdir()) if folder.exists() else []


def test_a_folder_is_published_without_access_to_the_store(here: World, client: Client, tmp_path: Path) -> None:
    """Files, manifest, number, registration; what comes back by the store is byte for byte what was sent."""
    folder, made = package(tmp_path)
    found = client.publish(folder)
    assert (found["version"], found["digest"], found["active"]) == (1, made.digest, True)
    assert pull(here.deployer.storage, "flights", 1, tmp_path / "back") == made
    assert (tmp_path / "back" / "model.txt").read_bytes() == b"model 1"
    assert uploads(here) == []


def test_publishing_again_changes_nothing_and_shared_files_travel_once(here: World, client: Client, tmp_path: Path) -> None:
    """The same package is the same version; of the next one only what is new is asked for."""
    first, second = package(tmp_path, 1), package(tmp_path, 2)
    assert [client.publish(first[0])["version"], client.publish(first[0])["version"]] == [1, 1]
    answer = here.http.post("/api/models/flights/packages", json=json.loads(second[1].canonical()))
    assert (answer.status_code, answer.json()["code"]) == (409, "files-missing")
    assert answer.json()["missing"] == [hashlib.sha256(b"model 2").hexdigest()]
    assert client.publish(second[0])["version"] == 2
    # Older bytes again: the version that has them, not a new one.
    assert client.publish(first[0])["version"] == 1
    assert client.publish(package(tmp_path, 3)[0], version=7)["version"] == 7


def test_a_file_that_is_not_what_its_name_says_is_refused(here: World) -> None:
    """Nothing of it is kept, neither in the store nor on the disk."""
    sha256 = hashlib.sha256(b"what was meant").hexdigest()
    answer = here.http.put(f"/api/models/flights/blobs/{sha256}", content=b"what was sent")
    assert (answer.status_code, answer.json()["code"]) == (422, "digest-mismatch")
    assert here.deployer.storage.size(blob_key(sha256)) is None
    assert uploads(here) == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_file_over_the_limit_is_refused(here: World, monkeypatch: pytest.MonkeyPatch, announced: bool) -> None:
    """By its announced length before a byte is read, else as soon as it has become too long."""
    monkeypatch.setattr(here.deployer.uploads, "_limit", 100)
    body = bytes(200)
    sha256 = hashlib.sha256(body).hexdigest()
    content: Any = body if announced else iter([body[:150], body[150:]])
    answer = here.http.put(f"/api/models/flights/blobs/{sha256}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert uploads(here) == []


def test_files_larger_than_other_bodies_go_through(here: World) -> None:
    """The limit of JSON bodies is not that of files."""
    body = bytes(9 * 2**20)
    sha256 = hashlib.sha256(body).hexdigest()
    assert here.http.put(f"/api/models/flights/blobs/{sha256}", content=body).json() == {"sha256": sha256, "received": True}
    assert here.http.put(f"/api/models/flights/blobs/{sha256}", content=body).json() == {"sha256": sha256, "received": False}


def test_two_who_publish_at_once_get_two_numbers(here: World, client: Client, tmp_path: Path) -> None:
    """Eight packages from eight hands: the numbers 1 to 8."""
    found: list[int] = []

    def act(salt: int) -> None:
        found.append(client.publish(package(tmp_path, salt)[0])["version"])

    threads = [threading.Thread(target=act, args=(salt,)) for salt in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 9))


def test_what_does_not_belong_is_refused(here: World, client: Client, tmp_path: Path) -> None:
    """Another model's package, a number that is taken, an edited folder, a manifest that is none."""
    folder, made = package(tmp_path, 1)
    client.publish(folder)
    with pytest.raises(Conflict, match="version 1 already"):
        client.publish(package(tmp_path, 2)[0], version=1)
    with pytest.raises(InvalidInput, match="belongs to model flights"):
        client.call("POST", "/api/models/trains/packages", made.model_dump(mode="json", by_alias=True, exclude_none=True))
    (folder / "model.txt").write_bytes(b"model 9")
    with pytest.raises(PackageRefused):
        client.publish(folder)
    assert here.http.post("/api/models/flights/packages", json={"model": "flights"}).status_code == 422


def test_files_that_a_deletion_took_are_sent_again(here: World, client: Client, tmp_path: Path) -> None:
    """The next package with the same file finds it missing, and publishes it anew."""
    client.publish(package(tmp_path, 1, metrics={"brier": 0.3})[0])
    lost, _ = package(tmp_path / "lost", 2)
    client.publish(lost)
    client.delete_version("flights", 2)
    again, made = package(tmp_path / "again", 2, description="the same model, described")
    assert client.publish(again)["version"] == 3
    assert pull(here.deployer.storage, "flights", 3, tmp_path / "back") == made
