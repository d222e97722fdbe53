"""People, projects and keys in the console: what somebody may not do is not offered, and secrets are shown once."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from quarterdeck_deployer.access import ROLES, Caller, Role, access_of
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.sessions import COOKIE, FORM_FIELD
from tests.api.test_console_pages import Document, field, text
from tests.console_furnished import PROJECT, Furnished, furnish
from tests.deployer_world import ADMIN, World, world

SECRET = re.compile(r"qdk_[a-z0-9]{8}_[\w-]+_[0-9a-f]{8}")
NAMES = {"viewer": "vera", "developer": "dora", "approver": "anna", "admin": "adam"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two versions, a deployment with a challenger in `default`, and one that only admins may change."""
    with world(tmp_path_factory.mktemp("access")) as found:
        found.register(1)
        found.register(2)
        found.put(challenger=2)
        found.ok(found.http.post("/api/projects", json={"name": "theirs"}))
        found.put("foreign", challenger=2, project="theirs")
        yield found


@pytest.fixture(scope="module")
def made(here: World) -> Furnished:
    """People, a project, a key and nodes."""
    return furnish(here)


def page(here: World, path: str) -> str:
    """The HTML of a page that must be there."""
    answer = here.http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def post(here: World, path: str, **form: object) -> httpx.Response:
    """Send a form as a browser does."""
    return here.http.post(path, data=form, headers={"accept": "text/html", "origin": str(here.http.base_url)})


def visitor(here: World, person: str) -> httpx.Client:
    """Somebody's browser."""
    cookies = {COOKIE: here.deployer.logins.open(person)}
    return httpx.Client(base_url=here.http.base_url, cookies=cookies, headers={"accept": "text/html"})


@pytest.mark.parametrize("role", ROLES)
def test_no_form_is_offered_that_would_be_refused(here: World, made: Furnished, role: Role) -> None:
    """page × role: every form leads where the role reaches; a developer finds none for deployments of other projects."""
    pages = ["/deployments/late", "/deployments/foreign", "/deployments/foreign/swap", "/deployments/foreign/queries",
             "/deployments/foreign/promote", "/deployments/foreign/challenger", "/models/flights", "/models/flights/versions/2",
             "/models/flights/versions/2/deprecate", "/keys", f"/keys/{made.key}/rotate", f"/keys/{made.key}/revoke", "/projects",
             f"/projects/{PROJECT}", f"/projects/{PROJECT}/delete", "/stages/prod", "/infrastructures/edge",
             "/infrastructures/edge/nodes/edge-main-1", "/infrastructures/edge/nodes/edge-main-1/revoke"]  # fmt: skip
    with visitor(here, made.people[NAMES[role]]) as client:
        offered = {path: forms(client.get(path)) for path in pages}
    for path, actions in offered.items():
        assert [one for one in actions if not Caller("", role, "session").may(access_of("POST", one) or "admin")] == [], path
        if role != "admin":
            assert [one for one in actions if one.startswith("/deployments/foreign")] == [], path
    assert ("/keys" in offered["/keys"]) == (role == "admin")
    assert any(one.startswith("/deployments/late") for one in offered["/deployments/late"]) == (role != "viewer")


def forms(answer: httpx.Response) -> list[str]:
    """Where the forms of a page lead that change something."""
    assert answer.status_code == 200, answer.text
    found = [str(one["action"]) for one in Document(answer.text).all("form") if one.get("method") == "post"]
    return [one for one in found if one not in ("/logout", "/account/token")]


def test_a_viewer_is_told_which_role_it_takes(here: World, made: Furnished) -> None:
    """In place of the form; and pages of people are not theirs, nor named in the navigation."""
    with visitor(here, made.people["vera"]) as client:
        assert "Changing this needs the role admin; yours is viewer." in client.get("/keys").text
        assert "Changing this needs the role developer; yours is viewer." in client.get("/deployments/late").text
        assert 'href="/people"' not in client.get("/deployments").text
        assert "4 people are in it; who they are is shown to admins." in text(client.get(f"/projects/{PROJECT}").text)
        assert client.get("/people").status_code == 403


def test_a_session_acts_by_its_own_forms_only(here: World, made: Furnished) -> None:
    """The new forms carry the visit's token like every other."""
    with visitor(here, made.people["adam"]) as client:
        shown = client.get("/projects").text
        bare = client.post("/projects", data={"name": "bare"})
        assert (bare.status_code, "not of a page of your session" in bare.text) == (403, True)
        sent = client.post("/projects", data={"name": "formed", FORM_FIELD: field(shown, FORM_FIELD)})
        assert (sent.status_code, sent.headers["location"]) == (303, "/projects/formed")


def test_somebody_is_let_in_changed_and_taken_away(here: World) -> None:
    """By forms; what was typed stays where it was wrong, and the trail has each of it."""
    wrong = post(here, "/people", name="Eve", email="nowhere", role="approver", projects="default")
    assert (wrong.status_code, field_value(wrong.text, "name")) == (422, "Eve")
    assert '<a href="#email">email</a>' in wrong.text
    answer = post(here, "/people", name="Eve", email="eve@example.org", role="approver", projects=["default", "theirs"])
    path = answer.headers["location"]
    assert "eve@example.org" in page(here, path)
    again = post(here, "/people", name="Eve", email="eve@example.org")
    assert (again.status_code, "Somebody has this address already." in again.text) == (422, True)
    post(here, path, name="Eve", role="developer", why="new work")
    changed = here.ok(here.http.get(f"/api{path}"))
    assert (changed["role"], changed["projects"]) == ("developer", [])
    assert "Delete Eve" in page(here, f"{path}/delete")
    assert post(here, f"{path}/delete").headers["location"] == "/people"
    assert "eve@example.org" not in page(here, "/people")
    trail = here.http.get("/api/audit", params={"object": path.replace("/people", "person")}).json()
    assert [one["verb"] for one in trail] == ["delete", "change", "create"]
    assert trail[1]["reason"] == "new work"


def field_value(html: str, name: str) -> str:
    """What stands in a field that people see."""
    found = re.search(rf'id="{name}" name="{name}" value="([^"]*)"', html)
    assert found is not None
    return found[1]


def test_sessions_of_somebody_are_ended(here: World, made: Furnished) -> None:
    """Their browser is nobody's from the next click on; a second time there is nothing to end, and the API does the same."""
    dora = made.people["dora"]
    here.deployer.logins.end(dora, Act(who="test"))
    with visitor(here, dora) as client:
        assert client.get("/deployments").status_code == 200
        assert "in 1 browser" in text(page(here, f"/people/{dora}"))
        assert "End the sessions of Dora" in page(here, f"/people/{dora}/end-sessions")
        answer = post(here, f"/people/{dora}/end-sessions", why="laptop lost")
        assert "Signed out: 1 session ended." in page(here, answer.headers["location"])
        assert client.get("/deployments").headers["location"] == "/login"
    assert here.ok(here.http.request("DELETE", f"/api/people/{dora}/sessions")) == {"person": dora, "sessions": 0}
    newest = here.http.get("/api/audit", params={"verb": "end-sessions"}).json()[0]
    assert (newest["object"], newest["reason"]) == (f"person/{dora}", "laptop lost")


def test_a_key_is_rotated_and_the_new_secret_is_shown_once(here: World, made: Furnished) -> None:
    """With an overlap; a double click makes one key, a mistake makes none, and the old key can be rotated no more."""
    path = f"/keys/{made.key}/rotate"
    ticket = field(page(here, path), "ticket")
    wrong = post(here, path, ticket=ticket, overlap_hours="-1")
    assert (wrong.status_code, '<a href="#overlap_hours">overlap hours</a>' in wrong.text) == (422, True)
    answer = post(here, path, ticket=ticket, overlap_hours="2", why="every quarter")
    assert answer.status_code == 201
    found = SECRET.search(answer.text)
    assert found is not None
    assert "goes on until" in text(answer.text)
    again = post(here, path, ticket=ticket, overlap_hours="2")
    assert (again.status_code, SECRET.search(again.text)) == (409, None)
    assert all(found[0] not in page(here, one) for one in ("/keys", "/audit"))
    keys = here.http.get("/api/keys", params={"project": PROJECT}).json()
    assert [one["replaces"] for one in keys if one["id"] != made.key] == [made.key]
    assert f"/keys/{made.key}/rotate" not in page(here, "/keys")
    assert here.http.get(path, headers={"accept": "text/html"}).status_code == 409


def test_a_project_shows_what_it_holds_and_goes_when_it_is_empty(here: World, made: Furnished) -> None:
    """Deployments, keys and people; deleting one that holds something is refused with the reason."""
    assert "foreign" in text(page(here, "/projects/theirs"))
    shown = text(page(here, f"/projects/{PROJECT}"))
    assert "vera@example.org" in shown
    assert "booking" in shown
    refused = post(here, "/projects/theirs/delete")
    assert (refused.status_code, "It holds deployment foreign" in refused.text) == (409, True)
    twice = post(here, "/projects", name="theirs")
    assert (twice.status_code, "There is such a project already." in twice.text) == (422, True)
    post(here, "/projects", name="passing", description="<b>")
    assert "&lt;b&gt;" in page(here, "/projects/passing")
    assert "Delete project passing" in page(here, "/projects/passing/delete")
    assert post(here, "/projects/passing/delete").headers["location"] == "/projects"
    assert here.http.get("/api/projects/passing").status_code == 404


def test_the_admin_token_is_in_no_page(here: World, made: Furnished) -> None:
    """Nor are digests of what opens something."""
    for path in ("/people", "/keys", f"/people/{made.people['dora']}", "/infrastructures/edge", "/account"):
        assert ADMIN not in page(here, path)
