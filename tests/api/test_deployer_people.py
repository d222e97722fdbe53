"""People, projects and roles: who may do what at the deployer, by token and by session, and what ends it."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from quarterdeck_deployer.access import ROLES, access_of
from quarterdeck_deployer.issuing import Issuer
from quarterdeck_deployer.models import LoginSession
from quarterdeck_deployer.people import Identity
from quarterdeck_deployer.sessions import COOKIE, FORM_FIELD, IDLE
from tests import deployer_world
from tests.api.test_deployer_edge import bearer, filled, routes
from tests.deployer_world import ADMIN, NODE, World, world


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A deployer with two projects, a deployment in each, and one person of each role in project `ours`."""
    with world(tmp_path_factory.mktemp("people")) as found:
        for name in ("ours", "theirs"):
            found.ok(found.http.post("/api/projects", json={"name": name}))
        found.register(1)
        found.register(2)
        found.put("mine", project="ours")
        found.put("foreign", project="theirs")
        for role in ROLES:
            person(found, role, role=role, projects=["ours"])
        yield found


def person(here: World, name: str, **given: Any) -> str:
    """Somebody new; gives back their id."""
    made = here.ok(here.http.post("/api/people", json={"name": name, "email": f"{name}@example.org", **given}))
    return str(made["id"])


def ident(here: World, name: str) -> str:
    """The id of somebody that there is."""
    return next(str(one["id"]) for one in here.http.get("/api/people").json() if one["email"] == f"{name}@example.org")


def token_of(here: World, name: str) -> dict[str, str]:
    """Headers with a token of somebody."""
    made = here.ok(here.http.post("/api/token", json={"person": ident(here, name)}))
    return bearer(made["token"])


@pytest.fixture
def anybody(here: World) -> Iterator[httpx.Client]:
    """A client without any credential, which is told in JSON what pages would say as well."""
    with httpx.Client(base_url=here.http.base_url, headers={"accept": "application/json"}) as client:
        yield client


def signed_in(here: World, client: httpx.Client, name: str) -> str:
    """Let the client's browser be somebody's, as a sign-in does; gives back what its forms carry."""
    session = here.deployer.logins.open(ident(here, name))
    client.cookies.set(COOKIE, session)
    return here.deployer.logins.form_token(session)


@pytest.mark.parametrize("role", ROLES)
def test_every_route_is_open_to_its_role_and_those_above(here: World, anybody: httpx.Client, role: str) -> None:
    """route × role: 403 with `role-missing` where the role does not reach, and never where it does."""
    headers = token_of(here, role)
    for method, path in routes(here.deployer):
        access = access_of(method, filled(path))
        # What is not refused does something: the test must end with the world that it began with.
        if access in ("public", "node") or (role == "admin" and method != "GET"):
            continue
        answer = anybody.request(method, filled(path), headers=headers)
        refused = ROLES.index(role) < ROLES.index(access or "admin")
        told = answer.json()["code"] if answer.status_code == 403 else ""
        assert (told == "role-missing") == refused, (method, path, answer.status_code, answer.text)


def test_a_developer_changes_what_is_in_their_projects(here: World, anybody: httpx.Client) -> None:
    """Everybody looks at everything; changes elsewhere, into another project or out of one are refused, by every road."""
    headers = token_of(here, "developer")
    change = {"main": {"model": "flights", "version": 2}}
    put = "/api/deployments/"
    assert anybody.get(put + "foreign", headers=headers).status_code == 200
    assert anybody.put(put + "mine", json={**change, "project": "ours"}, headers=headers).status_code == 200
    refused = [
        anybody.put(put + "foreign", json={**change, "project": "theirs"}, headers=headers),
        anybody.put(put + "foreign", json={**change, "project": "ours"}, headers=headers),
        anybody.put(put + "mine", json={**change, "project": "theirs"}, headers=headers),
        anybody.put(put + "new", json={**change, "project": "theirs"}, headers=headers),
        anybody.post(put + "foreign/stop", json={}, headers=headers),
        anybody.delete(put + "foreign", headers=headers),
        anybody.post(put + "foreign/feedback", json={"labels": []}, headers=headers),
        anybody.post("/deployments/foreign/stop", data={"why": "x"}, headers=headers),
    ]
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(403, "other-project")] * len(refused)
    assert anybody.put(put + "new", json={**change, "project": "none-such"}, headers=headers).status_code == 404
    assert here.get("foreign")["wish"]["main"]["version"] == 1


def test_an_admin_is_in_every_project(here: World, anybody: httpx.Client) -> None:
    """By role; membership is for the others."""
    assert anybody.post("/api/deployments/foreign/stop", json={}, headers=token_of(here, "admin")).status_code == 200
    here.do("run", "foreign")


def test_a_changed_role_counts_from_the_next_request_on(here: World, anybody: httpx.Client) -> None:
    """Of tokens and sessions that were there before; whoever is gone is nobody."""
    name = "promoted"
    made = person(here, name, projects=["ours"])
    headers = token_of(here, name)
    stop = "/api/deployments/mine/stop"
    assert anybody.post(stop, json={}, headers=headers).json()["code"] == "role-missing"
    here.ok(here.http.patch(f"/api/people/{made}", json={"role": "developer"}))
    assert anybody.post(stop, json={}, headers=headers).status_code == 200
    here.do("run", "mine")
    signed_in(here, anybody, name)
    assert anybody.get("/api/models").status_code == 200
    assert here.http.delete(f"/api/people/{made}").status_code == 204
    assert anybody.get("/api/models").status_code == 401
    assert anybody.get("/api/models", headers=headers).status_code == 401


def test_history_and_audit_tell_the_person(here: World, anybody: httpx.Client) -> None:
    """By address: names are anybody's to choose."""
    answer = anybody.post("/api/deployments/mine/stop", json={"why": "lunch"}, headers=token_of(here, "developer"))
    assert answer.status_code == 200
    newest = here.http.get("/api/audit", params={"object": "deployment/mine"}).json()[0]
    assert (newest["who"], newest["verb"]) == ("developer@example.org", "stop")
    here.do("run", "mine")


def test_tokens_are_short_lived_and_make_no_tokens(here: World, anybody: httpx.Client) -> None:
    """No token for a token, none for somebody else but by an admin, none for longer than a day; ours is known here by its key."""
    headers = token_of(here, "developer")
    assert anybody.post("/api/token", json={}, headers=headers).json()["code"] == "sign-in-needed"
    assert here.http.post("/api/token", json={"minutes": 1441}).status_code == 422
    assert here.http.post("/api/token", json={"person": "nobody"}).status_code == 404
    here_token = signed_in(here, anybody, "viewer")
    answer = anybody.post("/api/token", json={"person": ident(here, "admin")}, headers={"x-any": here_token})
    assert answer.json()["code"] == "role-missing"
    assert anybody.post("/api/token", json={}).status_code == 201
    shown = anybody.get("/.well-known/jwks.json").json()["keys"]
    assert all("d" not in key for key in shown)


def test_rotation_ends_the_tokens_of_two_keys_ago(here: World, anybody: httpx.Client) -> None:
    """One rotation ends nobody's token; the second one does."""
    headers = token_of(here, "viewer")
    for expected in (200, 200, 401):
        assert anybody.get("/api/models", headers=headers).status_code == expected
        assert len(here.ok(here.http.post("/api/issuer/rotate"))["keys"]) <= 2
    assert anybody.get("/api/models", headers=token_of(here, "viewer")).status_code == 200


def test_deployers_of_one_database_sign_with_the_same_keys(here: World) -> None:
    """Restarted or two at once, before and after a rotation by either; with another admin token nothing signed before counts."""
    with closing(deployer_world.database(here.deployer.settings.data)) as database:
        other, stranger = (Issuer(database, secret, here.deployer.settings.name) for secret in (ADMIN, "s" * 43))
        assert other.public() == here.deployer.issuer.public()
        made = here.ok(here.http.post("/api/token", json={}))["token"]
        assert (other.subject(made), stranger.subject(made)) == ("admin", None)
        with database.writing.begin() as session:
            shown = other.rotate(session)
        assert here.http.get("/.well-known/jwks.json").json()["keys"] == [dict(key) for key in shown.keys]
        here.until(lambda: here.main.plan is not None and here.main.plan.issuers == [shown])
        assert {other.subject(here.ok(here.http.post("/api/token", json={}))["token"]), other.subject(made)} == {"admin"}


def test_a_token_of_another_instance_is_nothing(here: World, anybody: httpx.Client, tmp_path: Any) -> None:
    """Its key is not ours, whatever it says about itself."""
    with world(tmp_path) as other:
        made = other.ok(other.http.post("/api/token", json={}))["token"]
        assert anybody.get("/api/models", headers=bearer(made)).status_code == 401
    head, _, tail = made.partition(".")
    # Of our key by its name, with something that no library expects.
    named = {"alg": "Ed25519", "kid": here.http.get("/.well-known/jwks.json").json()["keys"][0]["kid"], "crit": 1}
    odd = urlsafe_b64encode(json.dumps(named).encode()).decode().rstrip("=")
    for token in (f"{head}.{tail[:-4]}AAAA", f"{odd}.{tail}"):
        assert anybody.get("/api/models", headers=bearer(token)).status_code == 401


def test_forms_need_the_session_s_own_token(here: World, anybody: httpx.Client) -> None:
    """A form that another site sends with the browser's cookie does nothing; the one on the page does, and so does JSON."""
    token = signed_in(here, anybody, "developer")
    place = "/models/flights/active"
    for data in ({"version": 2}, {"version": 2, FORM_FIELD: "0" * 64}):
        answer = anybody.post(place, data=data)
        assert (answer.status_code, answer.json()["code"]) == (403, "form-stale")
    assert anybody.post(place, content="version=2").status_code == 403
    page = anybody.get("/models/flights", headers={"accept": "text/html"}).text
    forms = re.findall(rf'<form[^>]*method="post"[^>]*><input type="hidden" name="{FORM_FIELD}" value="([0-9a-f]+)">', page)
    assert set(forms) == {token}
    assert len(forms) == page.count('method="post"') > 1
    assert anybody.post(place, data={"version": 2, FORM_FIELD: token}).status_code == 303
    assert anybody.post("/api/deployments/mine/run", json={}).status_code == 200


def test_log_out_ends_the_session_on_the_server(here: World, anybody: httpx.Client) -> None:
    """The cookie is nothing any more, also for whoever has copied it."""
    signed_in(here, anybody, "viewer")
    copied = anybody.cookies[COOKIE]
    assert 'action="/logout"' in anybody.get("/deployments", headers={"accept": "text/html"}).text
    answer = anybody.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    anybody.cookies.set(COOKIE, copied)
    assert anybody.get("/api/models").status_code == 401


@pytest.mark.parametrize(("ago", "status"), [(IDLE - timedelta(seconds=30), 200), (IDLE + timedelta(seconds=30), 401)])
def test_a_session_that_nobody_uses_ends(here: World, anybody: httpx.Client, ago: timedelta, status: int) -> None:
    """After half an hour; a page that refreshes itself is nobody."""
    signed_in(here, anybody, "viewer")
    with here.deployer.writing.begin() as session:
        session.execute(update(LoginSession).values(seen=datetime.now(UTC) - ago))
    assert anybody.get("/api/models", headers={"hx-request": "true"}).status_code == status
    with here.deployer.sessions() as session:
        assert session.query(LoginSession).filter(LoginSession.seen > datetime.now(UTC) - timedelta(minutes=1)).count() == 0
    assert anybody.get("/api/models").status_code == status


def test_the_account_page_makes_a_token_once(here: World, anybody: httpx.Client) -> None:
    """It says who is there, and the answer to its form is the only page with the token, which opens the API."""
    form = signed_in(here, anybody, "developer")
    html = {"accept": "text/html"}
    page = anybody.get("/account", headers=html).text
    assert ("developer@example.org" in page, "ours" in page, "eyJ" in page) == (True, True, False)
    made = anybody.post("/account/token", data={"minutes": 5, FORM_FIELD: form}, headers=html).text
    token = re.search(r'<code id="secret">([^<]+)</code>', made)
    assert token
    anybody.cookies.clear()
    assert anybody.get("/api/models", headers=bearer(token.group(1))).status_code == 200


def test_projects_are_deleted_when_nothing_is_in_them(here: World) -> None:
    """Deployments, keys and people hold them; `default` is always there."""
    http = here.http
    assert http.post("/api/projects", json={"name": "ours"}).json()["code"] == "project-exists"
    for name in ("ours", "theirs", "default"):
        answer = http.delete(f"/api/projects/{name}")
        assert (answer.status_code, answer.json()["code"]) == (409, "project-in-use")
    here.ok(http.post("/api/projects", json={"name": "brief"}))
    key = here.ok(http.post("/api/keys", json={"name": "k", "project": "brief"}))
    assert http.delete("/api/projects/brief").status_code == 409
    assert http.delete(f"/api/keys/{key['id']}").status_code == 200
    assert http.delete("/api/projects/brief").status_code == 204
    assert http.get("/api/projects/brief").status_code == 404
    assert "brief" not in [one["name"] for one in http.get("/api/projects").json()]


def test_people_are_told_apart_by_address(here: World) -> None:
    """Whatever its capitals; a role or a project that there is not is refused."""
    http = here.http
    again = {"name": "Somebody", "email": "Viewer@Example.org"}
    assert http.post("/api/people", json=again).json()["code"] == "person-exists"
    for wrong in ({"role": "king"}, {"email": "nowhere"}, {"name": ""}):
        assert http.post("/api/people", json={"name": "n", "email": "n@example.org", **wrong}).status_code == 422
    assert http.post("/api/people", json={"name": "n", "email": "n@example.org", "projects": ["no-such"]}).status_code == 404
    assert http.get("/api/people", headers={"authorization": f"Bearer {ADMIN}"}, params={"limit": 2}).links["next"]


def test_a_role_that_the_provider_gives_stands_in_the_audit_trail(here: World) -> None:
    """Once for each change; a sign-in that changes nothing leaves no trace."""
    for role in (None, "approver", "approver", None):
        person = here.deployer.people.signed_in(Identity("issuer subject", "Ada", "ada@example.org", role))
    entries = here.http.get("/api/audit", params={"object": f"person/{person.id}"}).json()
    assert [(one["verb"], one["who"], one["after"]["role"]) for one in entries] == [
        ("change", "ada@example.org", "approver"),
        ("create", "ada@example.org", "viewer"),
    ]
    assert person.role == "approver"
    # Everybody may read the trail: an address stands there only as that of somebody who has done something.
    mute = here.ok(here.http.post("/api/people", json={"name": "Mute Swan", "email": "mute@example.org"}))
    here.ok(here.http.patch(f"/api/people/{mute['id']}", json={"name": "Whooper Swan"}))
    assert here.http.delete(f"/api/people/{mute['id']}").status_code == 204
    trail = here.http.get("/api/audit").text
    assert not [word for word in ("Swan", "mute@") if word in trail]
    assert trail.count(f"person/{mute['id']}") == 3


def test_nodes_tell_when_keys_were_used(here: World) -> None:
    """What they report is kept: the newest moment, none from the future, and nothing about keys that are none."""
    made = here.ok(here.http.post("/api/keys", json={"name": "used", "project": "ours", "rate": 0.5}))
    assert (made["last_used"], made["rate"], made["burst"]) == (None, 0.5, 1)

    def told(last: float) -> str:
        uses = [{"id": made["id"], "requests": 3, "last": last}, {"id": "nobody00", "requests": 1, "last": last}]
        report = {"node": "main", "boot": "b", "role": "main", "url": "u", "sequence": 0, "ready": True, "keys": uses}
        assert here.http.post("/nodes/main/report", json=report, headers=bearer(NODE)).status_code == 204
        listed = here.http.get("/api/keys", params={"project": "ours"}).json()
        return str(next(one["last_used"] for one in listed if one["id"] == made["id"]))

    now = datetime.now(UTC)
    first = told(now.timestamp() - 100)
    assert abs(datetime.fromisoformat(first) - (now - timedelta(seconds=100))) < timedelta(seconds=1)
    assert told(now.timestamp() - 200) == first
    assert datetime.fromisoformat(told(now.timestamp() + 3_600)) < now + timedelta(minutes=1)


def test_a_key_is_rotated_once(here: World) -> None:
    """It keeps all but its secret; the old one ends with the overlap, and what opens nothing any more has no heir."""
    http = here.http
    given = {"name": "rotating", "project": "ours", "scopes": ["read"], "days": 10, "rate": 2.0, "burst": 5}
    old = here.ok(http.post("/api/keys", json=given))
    new = here.ok(http.post(f"/api/keys/{old['id']}/rotate", json={"overlap_hours": 2}))
    assert {name: new[name] for name in ("name", "project", "scopes", "rate", "burst")} == {
        name: given[name] for name in ("name", "project", "scopes", "rate", "burst")
    }
    listed = {one["id"]: one for one in http.get("/api/keys").json()}
    ends = datetime.fromisoformat(listed[old["id"]]["expires"])
    assert abs(ends - datetime.now(UTC) - timedelta(hours=2)) < timedelta(minutes=1)
    lives = [datetime.fromisoformat(one["expires"]) - datetime.fromisoformat(one["created"]) for one in (old, new)]
    assert lives[0] == lives[1]
    assert http.post(f"/api/keys/{old['id']}/rotate", json={}).json()["code"] == "key-rotated"
    http.delete(f"/api/keys/{new['id']}")
    assert http.post(f"/api/keys/{new['id']}/rotate", json={}).json()["code"] == "key-ended"
    again = here.ok(http.post(f"/api/keys/{old['id']}/rotate", json={}))
    assert again["replaces"] == old["id"]
    # The first rotation has ended the old key sooner; what is made in its place again is not cut short by that.
    assert datetime.fromisoformat(again["expires"]) - datetime.fromisoformat(again["created"]) == lives[0]
    verbs = [one["verb"] for one in http.get("/api/audit", params={"object": f"key/{old['id']}"}).json()]
    assert verbs == ["rotate", "rotate", "create"]


def test_a_secret_is_not_in_the_answer_that_is_repeated(here: World) -> None:
    """The same request under the same key: the same API key, and its secret only the first time."""
    headers = {"idempotency-key": "once-only"}
    first, second = (here.ok(here.http.post("/api/keys", json={"name": "once"}, headers=headers)) for _ in range(2))
    assert (second["id"], second["secret"]) == (first["id"], "")
    assert first["secret"]
