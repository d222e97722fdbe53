"""Two models side by side, one of them broken: the other never notices, the fault is named everywhere, and mending it helps."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from quarterdeck.build import BuiltPackage
from quarterdeck.plan import VersionRef
from quarterdeck.resources import ModelDeployment
from tests.local.shared import Shared, rows
from tests.local.system import cli
from tests.models import lightgbm_model, version_encoding_model
from tests.support import eventually

HEALTHY = "repair-healthy"


@contextmanager
def traffic(shared: Shared, name: str) -> Iterator[list[tuple[int, str]]]:
    """Requests one after the other to a deployment, all the while; (status, digest) of each."""
    said: list[tuple[int, str]] = []
    ended = threading.Event()

    def run() -> None:
        with httpx.Client(base_url=shared.system.main_url, trust_env=False, timeout=60) as http:
            while not ended.wait(0.02):
                answer = http.post(f"/deployments/{name}/predict", json=rows(1))
                said.append((answer.status_code, answer.headers["quarterdeck-digest"]))

    thread = threading.Thread(target=run, name="traffic")
    thread.start()
    try:
        yield said
    finally:
        ended.set()
        thread.join()


def apply(shared: Shared, name: str, ref: VersionRef, description: str = "", wait: float = 60) -> dict[str, Any]:
    """Wish for a version, whatever becomes of it."""
    spec = {"model": {"name": ref.model, "version": ref.version}, "access": "public", "description": description}
    resource = ModelDeployment.model_validate({"metadata": {"name": name}, "spec": spec})
    return dict(shared.client.apply(resource, wait=wait))


def refused(shared: Shared, name: str, code: str) -> dict[str, Any]:
    """The observed state, once it says that the version is refused with that code."""

    def found() -> dict[str, Any]:
        seen = shared.observed(name)
        assert seen["hold"]["code"] == code
        return seen

    return eventually(found, every=0.1)


def troubles(shared: Shared, name: str) -> str:
    """Whatever the observed state says about why a wish is not there yet."""
    seen = shared.observed(name)
    return json.dumps([seen["hold"], seen["failure"], seen["target"]])


def pages(shared: Shared, name: str) -> dict[str, str]:
    """What people see of a deployment: the command line's two views and the console."""
    token = (shared.system.home.folder / "token").read_text().strip()
    with httpx.Client(base_url=shared.client.url, trust_env=False) as browser:
        browser.get("/login", params={"token": token})
        page = browser.get(f"/deployments/{name}").text
    got = cli(shared.system.folder, "get", name, "-o", "json")
    return {"get": got.stdout, "status": cli(shared.system.folder, "status", name).stdout, "console": page}


def blob(shared: Shared, built: BuiltPackage, path: str) -> Path:
    """Where a package's file lies in the folder store."""
    return shared.system.home.folder / "store" / "blobs" / "sha256" / built.manifest.file(path).sha256


def replace(path: Path, data: bytes) -> None:
    """Other bytes under the same name, written as a new file: blobs may be hard links."""
    path.unlink()
    path.write_bytes(data)


@pytest.fixture(scope="module")
def healthy(shared: Shared) -> VersionRef:
    """The model that must not notice anything."""
    ref = shared.task("regression")
    shared.deploy(HEALTHY, ref)
    return ref


def test_a_tampered_model_is_refused_beside_a_healthy_one_until_it_is_mended(shared: Shared, healthy: VersionRef) -> None:
    """One bit in the store: named by file in API, command line and console; the right bytes and a new wish, and it answers."""
    name, built = "repair-tampered", lightgbm_model("regression", 5).package("repair-tampered")
    ref = shared.publish(name, built)
    place = blob(shared, built, "trees-0.txt")
    whole = place.read_bytes()
    replace(place, whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with traffic(shared, HEALTHY) as said:
        done = apply(shared, name, ref)
        assert (done["changed"], done["applied"]) == (True, False)
        seen = refused(shared, name, "digest-mismatch")
        assert (seen["deployed"]["state"], seen["running"]["state"]) == ("failed", "failing")
        assert "trees-0.txt" in seen["hold"]["reason"]
        assert "on node main" in seen["hold"]["reason"]
        assert shared.ask(name, rows(1)).status_code == 503
        for where, text in pages(shared, name).items():
            assert "trees-0.txt" in text, where
        replace(place, whole)
        assert apply(shared, name, ref, "mended")["applied"]
        assert shared.ask(name, rows(1)).json()["digest"] == ref.digest
        assert shared.observed(name)["hold"] is None
    assert len(said) > 20
    assert set(said) == {(200, healthy.digest)}


def test_a_model_of_another_interpreter_is_refused_and_the_old_version_serves_on(shared: Shared, healthy: VersionRef) -> None:
    """Both interpreters are named; nothing of the package is run; a mended version follows as the next one."""
    name, one, two = "repair-interpreter", shared.version(1), shared.version(2)
    shared.deploy(name, one)
    made = version_encoding_model(1, "skops", "foreign")
    environment = made.manifest.environment.model_copy(update={"python": "3.9.1"})
    foreign = BuiltPackage(made.manifest.model_copy(update={"environment": environment}), made.files)
    ref = shared.publish("foreign", foreign)
    with traffic(shared, HEALTHY) as said:
        assert not apply(shared, name, ref)["applied"]
        seen = refused(shared, name, "environment-mismatch")
        assert "3.9.1" in seen["hold"]["reason"]
        assert "python" in seen["hold"]["reason"].lower()
        assert shared.ask(name, {"number": 1.0}).json()["digest"] == one.digest
        for where, text in pages(shared, name).items():
            assert "3.9.1" in text, where
        status = json.loads(cli(shared.system.folder, "get", name, "-o", "json").stdout)["observed"]
        assert (status["deployed"]["state"], status["main"]["ref"]["digest"]) == ("yes", one.digest)
        assert apply(shared, name, two)["applied"]
        assert shared.ask(name, {"number": 1.0}).json()["version"] == 2
    assert set(said) == {(200, healthy.digest)}


def test_a_missing_blob_is_named_and_comes_back(shared: Shared, healthy: VersionRef) -> None:
    """A file that is not in the store at all: refused by name as well, and served after it was put there."""
    name, built = "repair-missing", lightgbm_model("regression", 6).package("repair-missing")
    ref = shared.publish(name, built)
    place = blob(shared, built, "trees-0.txt")
    whole = place.read_bytes()
    place.unlink()
    with traffic(shared, HEALTHY) as said:
        assert not apply(shared, name, ref, wait=1)["applied"]
        eventually(lambda: re.search(f"trees-0.txt|{place.name}", troubles(shared, name)), every=0.1)
        place.write_bytes(whole)
        assert apply(shared, name, ref, "mended")["applied"]
        assert shared.ask(name, rows(1)).json()["digest"] == ref.digest
    assert set(said) == {(200, healthy.digest)}
