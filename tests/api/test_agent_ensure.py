"""The agent brings packages: complete, compared, tried in a process that may die, and refused by name otherwise."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import pytest

from quarterdeck import package_files
from quarterdeck.build import BuiltPackage
from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Manifest, digest_of
from quarterdeck.plan import VersionRef
from quarterdeck.storage import Storage, open_storage
from quarterdeck.storage.keys import blob_key, manifest_key
from quarterdeck_node.agent.trial import try_load
from tests.agents import AgentProcess, agent_in
from tests.models import model_package, sklearn_model, version_encoding_model

BOMBS = {
    "memory": "b = [bytes(2**30) for _ in range(64)]",
    "crash": "import os; os.kill(os.getpid(), 11)",
    "exit": "import os; os._exit(0)",
    "raise": "1 / 0",
}


class Bomb:
    """Runs code where it is unpickled."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (self._code,)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One agent for all refusals: none of them may end it."""
    folder = tmp_path_factory.mktemp("node")
    with agent_in(folder, str(tmp_path_factory.mktemp("store")), trial_seconds=60, trial_bytes=3 * 2**30) as agent:
        yield agent
        assert agent.process is not None
        assert agent.process.poll() is None


@pytest.fixture
def storage(agent: AgentProcess) -> Storage:
    """The agent's store."""
    return open_storage(agent.store)


def published(storage: Storage, change: dict[str, Any], base: Manifest, name: str) -> VersionRef:
    """A version whose manifest is consistent in itself but says something else than the builder did."""
    document = base.model_dump(mode="json", by_alias=True, exclude_none=True) | change | {"model": name}
    raw = Manifest.model_validate(document).canonical()
    storage.put(manifest_key(name, 1), raw)
    return VersionRef(model=name, version=1, digest=digest_of(raw), trust="data")


@pytest.mark.parametrize("form", ["compiled", "skops"])
def test_a_sound_package_is_ensured(agent: AgentProcess, storage: Storage, form: Any) -> None:
    """The folder is complete, the trial is measured, and asking again answers at once from memory."""
    ref = model_package("binary", form, name=f"sound-{form}").push(storage)
    answer = agent.ensure(ref)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    manifest = Manifest.parse((agent.folder / said["folder"] / "manifest.json").read_bytes(), ref.digest)
    assert all((agent.folder / said["folder"] / entry.path).stat().st_size == entry.size for entry in manifest.files)
    assert said["load_seconds"] > 0
    assert agent.ensure(ref).json() == said
    assert agent.get("/state")[ref.digest]["state"] == "ready"


def test_concurrent_callers_share_the_work(agent: AgentProcess, storage: Storage) -> None:
    """Six who ask at once get one answer."""
    ref = version_encoding_model(3, name="shared").push(storage)
    with ThreadPoolExecutor(6) as pool:
        answers = [answer.json() for answer in pool.map(agent.ensure, [ref] * 6)]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["folder"] == "cache/" + ref.digest.removeprefix("sha256:")


def test_a_tampered_byte_is_refused_by_file_and_the_right_one_heals(agent: AgentProcess, storage: Storage) -> None:
    """A blob of the wrong bytes names its path; when the store holds the right ones again, asking again succeeds."""
    built = version_encoding_model(4, name="tampered")
    ref = built.push(storage)
    entry = built.manifest.files[0]
    right = storage.get(blob_key(entry.sha256))
    blob = Path(agent.store) / blob_key(entry.sha256)
    blob.unlink()
    storage.put(blob_key(entry.sha256), bytes([right[0] ^ 1]) + right[1:])
    problem = agent.ensure(ref)
    assert problem.status_code == 422
    assert (problem.json()["code"], problem.json()["place"]) == ("digest-mismatch", entry.path)
    storage.delete(blob_key(entry.sha256))
    storage.put(blob_key(entry.sha256), right)
    assert agent.ensure(ref).status_code == 200


def test_a_file_damaged_in_the_cache_is_fetched_anew(agent: AgentProcess, storage: Storage) -> None:
    """What lies in the cache is compared every time."""
    built = version_encoding_model(5, name="damaged")
    ref = built.push(storage)
    folder = agent.folder / agent.ensure(ref).json()["folder"]
    entry = built.manifest.files[0]
    (folder / entry.path).chmod(0o644)
    (folder / entry.path).write_bytes(b"x" * entry.size)
    assert agent.ensure(ref).status_code == 200
    assert (folder / entry.path).read_bytes() == storage.get(blob_key(entry.sha256))


@pytest.mark.parametrize(
    ("change", "code", "place"),
    [
        ({"environment": {"python": "2.7.18", "libraries": {}}}, "environment-mismatch", "python"),
        ({"environment": {"libraries": {"scikit-learn": "0.1"}}}, "environment-mismatch", "scikit-learn"),
        ({"environment": {"variables": ["NOBODY_SET_THIS"]}}, "variable-missing", "NOBODY_SET_THIS"),
    ],
    ids=["interpreter", "library", "variable"],
)
def test_another_environment_is_refused_by_name(
    agent: AgentProcess, storage: Storage, change: dict[str, Any], code: str, place: str
) -> None:
    """Interpreter, library and variable are named, before anything is loaded."""
    built = foreign()
    built.push(storage)
    base = built.manifest.model_dump(mode="json")["environment"]
    name = f"foreign-{place.lower()}".replace("_", "-")
    ref = published(storage, {"environment": base | change["environment"]}, built.manifest, name)
    problem = agent.ensure(ref)
    assert problem.status_code == 422
    assert problem.json()["code"] == code
    assert place in problem.json()["place"] + problem.json()["detail"]


def test_a_golden_mismatch_is_refused_by_row(agent: AgentProcess, storage: Storage) -> None:
    """A model that answers otherwise than recorded is not served."""
    built = version_encoding_model(6, name="mismatch")
    built.push(storage)
    golden = [row.model_dump(mode="json") for row in built.manifest.golden]
    golden[0]["expected"]["prediction"] = 7.0
    problem = agent.ensure(published(storage, {"golden": golden}, built.manifest, "wrong"))
    assert problem.status_code == 422
    assert (problem.json()["code"], problem.json()["place"]) == ("golden-mismatch", "golden row 0")


def test_a_missing_store_is_named(agent: AgentProcess, storage: Storage, tmp_path: Path) -> None:
    """A store that is not there is an error of the store, with its code, and nothing ends."""
    ref = version_encoding_model(8, name="homeless").push(storage)
    problem = agent.ensure(ref, str(tmp_path / "nowhere"))
    assert problem.status_code == 502
    assert problem.json()["code"] in {"no-such-bucket", "not-found"}
    assert isinstance(problem.json()["retryable"], bool)


def test_code_is_loaded_only_where_it_is_allowed(agent: AgentProcess, storage: Storage) -> None:
    """A joblib package needs `trust: code` in the deployment too; with it the same package is ensured."""
    ref = bomb(storage, "harmless")
    assert agent.ensure(ref.model_copy(update={"trust": "data"})).json()["code"] == "trust-required"
    assert agent.ensure(ref).status_code == 200


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_its_own_process_only(agent: AgentProcess, storage: Storage, name: str) -> None:
    """Memory, crash, exit, exception while loading: refused as load-failed; the agent answers on."""
    problem = agent.ensure(bomb(storage, f"bomb-{name}", BOMBS[name]))
    assert (problem.status_code, problem.json()["code"]) == (422, "load-failed")
    assert agent.get("/health")["status"] == "ok"


def test_a_package_that_never_loads_is_ended(agent: AgentProcess, storage: Storage, tmp_path: Path) -> None:
    """The deadline is that of the trial, not of whoever asked."""
    ref = bomb(storage, "bomb-hang", "import time; time.sleep(3600)")
    manifest = package_files.pull(storage, ref.model, ref.version, tmp_path / "package")
    with pytest.raises(PackageRefused, match="longer than 2 s") as refused:
        try_load(manifest, tmp_path / "package", allow_code=True, seconds=2, memory_bytes=2**32)
    assert (refused.value.code, refused.value.extra) == ("load-failed", {"place": "trial load"})


def test_a_trial_does_not_see_the_keys_of_the_store(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that may run code is loaded without the agent's own environment."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    ref = bomb(storage, "bomb-curious", "import os; os._exit(9 if 'AWS_SECRET_ACCESS_KEY' in os.environ else 3)")
    manifest = package_files.pull(storage, ref.model, ref.version, tmp_path / "package")
    with pytest.raises(PackageRefused, match="status 3"):
        try_load(manifest, tmp_path / "package", allow_code=True, seconds=60, memory_bytes=2**33)


def test_a_request_that_is_none_is_refused(agent: AgentProcess) -> None:
    """A digest that is no digest is the caller's mistake, not a package's."""
    with agent.client() as client:
        problem = client.post("/ensure", json={"model": "m", "version": 1, "digest": "x", "store": "s"})
    assert (problem.status_code, problem.json()["code"]) == (400, "invalid-input")


@cache
def foreign() -> BuiltPackage:
    """A sound package with an environment; built once, since building proves it."""
    return model_package("binary", "skops", name="foreign")


@cache
def harmless() -> BuiltPackage:
    """A sound package that may run code; built once."""
    return sklearn_model("binary").package("harmless", form="joblib", trust="code")


def bomb(storage: Storage, name: str, code: str = "") -> VersionRef:
    """Publish a joblib package; with `code` its model is replaced by one that runs it when loaded."""
    built = harmless()
    ref = built.push(storage)
    if code:
        target = io.BytesIO()
        joblib.dump(Bomb(code), target)
        storage.put(blob_key(hashlib.sha256(target.getvalue()).hexdigest()), target.getvalue())
        entries = [entry.model_dump() for entry in built.manifest.files]
        for entry in entries:
            if entry["path"] == "model.joblib":
                entry |= {"size": len(target.getvalue()), "sha256": hashlib.sha256(target.getvalue()).hexdigest()}
        ref = published(storage, {"files": entries}, built.manifest, f"{name}-armed")
    return ref.model_copy(update={"trust": "code"})
