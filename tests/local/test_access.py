"""Who gets in: every access mode, every kind of key, every door, on the running system with keys that the deployer made."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import grpc
import httpx
import pytest

from quarterdeck.errors import Conflict
from quarterdeck.schema import Row
from tests import access_table
from tests.local.shared import Shared
from tests.local.system import cli
from tests.support import eventually

PROJECT = "mine"
MODES = ("public", "instance", "project")
ROW: Row = {"number": 1.0}
KNOWN = ("good", "instance-wide", "other-project", "reads-only")
OPEN = dict.fromkeys((*KNOWN, "none", "revoked", "garbage", "typo", "admin-token", "node-token"), 200)
CLOSED = {name: 200 if name in KNOWN else 401 for name in OPEN}
READ = {"public": OPEN, "instance": CLOSED, "project": {**CLOSED, "other-project": 403}}
PREDICT = {"public": OPEN, "instance": {**CLOSED, "reads-only": 403}, "project": {**READ["project"], "reads-only": 403}}


@dataclass
class World:
    """Three deployments of one version, and what callers may send as their key."""

    shared: Shared
    keys: dict[str, str]

    def headers(self, key: str) -> dict[str, str]:
        """With that key, as most programs send it."""
        return {"authorization": f"Bearer {self.keys[key]}"} if key != "none" else {}

    def statuses(self, mode: str, key: str) -> dict[str, int]:
        """The status of each door that names the deployment."""
        shared, name, headers = self.shared, f"access-{mode}", self.headers(key)
        tensor = {"name": "number", "shape": [1], "datatype": "FP64", "data": [1.0]}
        return {
            "plain": shared.ask(name, ROW, headers).status_code,
            "oip": shared.infer(name, {"inputs": [tensor]}, headers).status_code,
            "oip versioned": shared.infer(name, {"inputs": [tensor]}, headers, version=1).status_code,
            "form": shared.form(name, {"number": 1.0}, headers).status_code,
            "empty form": shared.http.get(f"/deployments/{name}/form", headers=headers).status_code,
            "detail": shared.http.get(f"/deployments/{name}", headers=headers).status_code,
            "metadata": shared.http.get(f"/v2/models/{name}", headers=headers).status_code,
            "model ready": shared.http.get(f"/v2/models/{name}/ready", headers=headers).status_code,
        }


READING = ("detail", "metadata", "model ready")


@pytest.fixture(scope="module")
def world(shared: Shared) -> World:
    """Deployments in project `mine`; the keys are known to the node, and the revoked one is not any more."""
    version = shared.version(1)
    for project in (PROJECT, "theirs"):
        shared.client.create_project(project)
    for mode in MODES:
        shared.deploy(f"access-{mode}", version, access=mode, project=PROJECT)
    found = access_table.made(shared.client, PROJECT, "theirs")
    for name, scopes in (("instance-wide", ["predict", "read"]), ("reads-only", ["read"])):
        project = "*" if name == "instance-wide" else PROJECT
        found[name] = shared.client.create_key({"name": name, "project": project, "scopes": scopes})
    home = shared.system.home.folder
    keys = {name: one["secret"] for name, one in found.items()} | {
        "garbage": "qdk_garbage",
        "typo": found["good"]["secret"][:-1] + "!",
        "admin-token": (home / "token").read_text().strip(),
        "node-token": (home / "node-token").read_text().strip(),
    }
    world = World(shared, keys)
    for caller in ("revoked", "expired"):
        eventually(lambda caller=caller: world.statuses("instance", caller)["plain"] == 200)  # type: ignore[misc]
    shared.client.revoke_key(found["revoked"]["id"])
    shared.client.rotate_key(found["expired"]["id"], 0.0)
    for caller in ("revoked", "expired"):
        eventually(lambda caller=caller: world.statuses("instance", caller)["plain"] == 401)  # type: ignore[misc]
    return world


@pytest.mark.parametrize("caller", access_table.CALLERS)
@pytest.mark.parametrize("mode", access_table.MODES)
def test_every_dialect_lets_in_the_same_callers(world: World, mode: str, caller: str) -> None:
    """200, 401 or 403 by mode and caller, whichever way rows are asked for."""
    shared, secret = world.shared, world.keys.get(caller, "")
    schema = shared.manifest("versions-1").data_schema
    with grpc.insecure_channel(shared.grpc) as channel:
        found = access_table.statuses(shared.http, f"access-{mode}", schema, [ROW], secret, channel)
    assert found == dict.fromkeys(found, access_table.EXPECTED[mode][caller])


def test_a_key_has_its_own_limit(world: World) -> None:
    """Two at once, then 429 with the seconds to wait, in every dialect; other keys know nothing of it, and so does a plan."""
    made = world.shared.client.create_key({"name": "slow", "project": PROJECT, "rate": 0.01, "burst": 2})
    headers = {"authorization": f"Bearer {made['secret']}"}
    eventually(lambda: world.shared.ask("access-project", ROW, headers).status_code == 200)
    last = world.shared.ask("access-project", ROW, headers)
    refused = world.shared.ask("access-project", ROW, headers)
    assert (last.status_code, refused.status_code, refused.json()["code"]) == (200, 429, "rate-limited")
    assert 90 <= int(refused.headers["retry-after"]) <= 100
    # A new plan is no new allowance.
    other = world.shared.client.create_key({"name": "other"})
    eventually(lambda: world.shared.ask("access-project", ROW, {"x-api-key": other["secret"]}).status_code == 200)
    schema = world.shared.manifest("versions-1").data_schema
    with grpc.insecure_channel(world.shared.grpc) as channel:
        found = access_table.statuses(world.shared.http, "access-project", schema, [ROW], made["secret"], channel)
    assert found == dict.fromkeys(found, 429)


def test_a_rotated_key_overlaps_with_the_one_before(world: World) -> None:
    """Both open the same until the overlap is over; nobody asks twice for a successor, and the old one shows its end."""
    client = world.shared.client
    old = client.create_key({"name": "rotating", "project": PROJECT, "scopes": ["predict"]})
    new = client.rotate_key(old["id"], 1.0)
    assert (new["replaces"], new["project"], new["scopes"]) == (old["id"], PROJECT, ["predict"])
    for one in (old, new):
        eventually(lambda one=one: world.shared.ask("access-project", ROW, {"x-api-key": one["secret"]}).status_code == 200)  # type: ignore[misc]
    with pytest.raises(Conflict, match="has taken its place"):
        client.rotate_key(old["id"])
    listed = client.keys()
    assert next(one for one in listed if one["id"] == old["id"])["expires"]
    ended = client.rotate_key(new["id"], 0.0)
    eventually(lambda: world.shared.ask("access-project", ROW, {"x-api-key": new["secret"]}).status_code == 401)
    eventually(lambda: world.shared.ask("access-project", ROW, {"x-api-key": ended["secret"]}).status_code == 200)


@pytest.mark.parametrize("key", OPEN)
@pytest.mark.parametrize("mode", MODES)
def test_each_door_knows_whom_to_let_in(world: World, mode: str, key: str) -> None:
    """Predicting needs the scope for it, reading does not; the deployer's own tokens are nothing at a node."""
    found = world.statuses(mode, key)
    assert found == {door: (READ if door in READING else PREDICT)[mode][key] for door in found}


@pytest.mark.parametrize("key", OPEN)
def test_lists_show_what_a_key_opens_and_nothing_else(world: World, key: str) -> None:
    """Deployments, models, the OpenAPI document and the page of all agree; none of them is ever refused."""
    expected = [f"access-{mode}" for mode in sorted(MODES) if READ[mode][key] == 200]
    asked, headers = world.shared.http, world.headers(key)
    listed = [one["name"] for one in asked.get("/deployments", headers=headers).json()["deployments"]]
    models = asked.get("/v2/models", headers=headers).json()["models"]
    paths = asked.get("/openapi.json", headers=headers).json()["paths"]
    page = asked.get("/docs", headers=headers).text
    assert [name for name in listed if name.startswith("access-")] == expected
    assert [name for name in models if name.startswith("access-")] == expected
    for mode in MODES:
        assert (f"/deployments/access-{mode}/predict" in paths) is (f"access-{mode}" in expected)
        assert (f"<h2>access-{mode}</h2>" in page) is (f"access-{mode}" in expected)


@pytest.mark.parametrize(
    ("mode", "key", "status", "code"),
    [
        ("instance", "none", 401, "unauthenticated"),
        ("instance", "garbage", 401, "key-mistyped"),
        ("instance", "admin-token", 401, "unauthenticated"),
        ("project", "revoked", 401, "unauthenticated"),
        ("project", "other-project", 403, "other-project"),
        ("project", "reads-only", 403, "scope-missing"),
    ],
)
def test_refusals_say_why_and_never_whose(world: World, mode: str, key: str, status: int, code: str) -> None:
    """A code for programs, a challenge where a key is missing, and no part of a key."""
    answer = world.shared.ask(f"access-{mode}", ROW, world.headers(key))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("www-authenticate", "") == ("Bearer" if status == 401 else "")
    assert world.keys.get(key, "nothing") not in answer.text
    assert "quarterdeck-digest" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "{good}"}, 200),
        ({"authorization": "bearer {good}"}, 200),
        ({"authorization": "Basic {good}"}, 401),
        ({"authorization": "Basic eDp5", "x-api-key": "{good}"}, 200),
        ({"authorization": "Bearer {revoked}", "x-api-key": "{good}"}, 401),
        ({"cookie": "quarterdeck_session={good}"}, 401),
        ({"authorization": "{good}"}, 401),
    ],
)
def test_a_key_comes_in_one_of_two_headers(world: World, headers: dict[str, str], status: int) -> None:
    """`Authorization: Bearer` or `X-API-Key`; what the first one says counts."""
    given = {name: value.format(**world.keys) for name, value in headers.items()}
    assert world.shared.ask("access-project", ROW, given).status_code == status


def test_a_key_in_the_address_opens_nothing(world: World) -> None:
    """Addresses end up in logs: a key there is not looked at."""
    for name in ("key", "api_key", "token", "access_token"):
        place = f"/deployments/access-project/predict?{name}={world.keys['good']}"
        assert world.shared.http.post(place, json=ROW).status_code == 401


def test_a_browser_gives_the_key_in_the_form(world: World) -> None:
    """Without a key the page asks for one and shows no feature; with it the form works, and is not kept by caches."""
    http = world.shared.http
    asked = http.get("/deployments/access-project/form")
    assert asked.status_code == 401
    assert 'name="key"' in asked.text
    assert "number" not in asked.text
    opened = http.post("/deployments/access-project/form", data={"key": world.keys["good"]})
    assert opened.status_code == 200
    assert 'name="feature:number"' in opened.text
    answered = world.shared.form("access-project", {"number": 1.0}, key=world.keys["good"])
    assert "<h2>1.0</h2>" in answered.text
    assert answered.headers["cache-control"] == "no-store"
    assert world.shared.form("access-project", {"number": 1.0}, key=world.keys["other-project"]).status_code == 403


def test_a_key_lives_from_its_making_to_its_revoking(world: World) -> None:
    """Made: it works within seconds. Revoked: the node refuses it within ten, on the same connection; others live on."""
    made = world.shared.client.create_key({"name": "short life", "project": PROJECT})
    headers = {"x-api-key": made["secret"]}
    eventually(lambda: world.shared.ask("access-project", ROW, headers).status_code == 200)
    world.shared.client.revoke_key(made["id"])
    eventually(lambda: world.shared.ask("access-project", ROW, headers).status_code == 401)
    assert world.statuses("project", "good")["plain"] == 200


def test_the_secret_is_shown_once(world: World) -> None:
    """It is in the answer that made it, and from then on in no list, no audit row, no page, no file and no log."""
    shared = world.shared
    made = shared.client.create_key({"name": "seen once"})
    # Cut by place: an underscore may stand in the secret part as well.
    secret = made["secret"][len(f"qdk_{made['id']}_") : -len("_00000000")]
    assert len(secret) == 43
    shown = str([shared.client.keys(), shared.client.audit()])
    with httpx.Client(base_url=shared.client.url, trust_env=False) as browser:
        browser.get("/login", params={"token": world.keys["admin-token"]})
        shown += browser.get("/keys").text + browser.get("/audit").text
    assert made["id"] in shown
    assert secret not in shown
    # What runs goes on writing: files of the spool are sealed and shipped while others are read.
    folder = shared.system.home.folder
    assert list(folder.rglob("deployer.db*"))
    found = subprocess.run(["grep", "-rlsF", "-e", secret, str(folder)], capture_output=True, text=True, check=False)
    assert found.stdout == ""
    listed = cli(shared.system.folder, "keys", "list", "-o", "json")
    assert made["id"] in listed.stdout
    assert secret not in listed.stdout + listed.stderr


@pytest.mark.parametrize("key", ["good", "instance-wide", "garbage", "node-token"])
@pytest.mark.parametrize("path", ["/api/deployments", "/api/keys", "/api/audit", "/deployments", "/plans/main"])
def test_keys_for_predicting_open_nothing_at_the_deployer(world: World, path: str, key: str) -> None:
    """Neither the API nor the console; the nodes' token opens the plans and nothing else."""
    answer = httpx.get(world.shared.client.url + path, headers=world.headers(key), trust_env=False)
    assert (answer.status_code == 200) is (path.startswith("/plans") and key == "node-token")
    assert answer.status_code in (200, 303, 401)


def test_records_tell_which_key_asked(world: World) -> None:
    """The key's public id stands in the record, and nothing where no key was needed."""
    shared = world.shared
    good = world.keys["good"].split("_")[1]
    for mode, expected in {"public": "", "instance": good, "project": good}.items():
        request = shared.ask(f"access-{mode}", ROW, world.headers("good")).json()["request_id"]
        assert shared.arrived(f"access-{mode}", f"{request}-0")["key_id"] == expected
