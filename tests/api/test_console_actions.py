"""What people do to a deployment in the console: a page that says what will be, one button, one revision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_console_pages import field, text
from tests.console_world import NAME, Console, console, living
from tests.support import eventually

HERE = f"/deployments/{NAME}"


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Console]:
    """Version 1 is main, 2 its challenger; 3 is registered; both nodes live and do what is wished."""
    with console(tmp_path) as found:
        found.deploy()
        found.digests[3] = found.world.register(3)
        with living(found):
            yield found


def applied(found: Console) -> dict[str, Any]:
    """What is observed once the nodes do what is wished."""
    eventually(lambda: found.world.get()["observed"]["applied"])
    observed: dict[str, Any] = found.world.get()["observed"]
    return observed


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The same, for tests that only look."""
    with console(tmp_path_factory.mktemp("shown")) as found:
        found.deploy()
        found.digests[3] = found.world.register(3)
        yield found


def numbers(found: Console) -> list[int]:
    """Numbers of all revisions, newest first."""
    return [one["number"] for one in found.world.http.get(f"/api{HERE}/revisions").json()]


def wished(found: Console) -> dict[str, Any]:
    """The newest wish."""
    wish: dict[str, Any] = found.world.get()["wish"]
    return wish


PAGES = [
    ("challenger", "Set challenger of late", "Main is flights v1", False),
    ("clear", "Clear challenger flights v2", "answers do not change. What the challenger has answered stays recorded.", False),
    ("stop", "Stop late", "Callers get errors instead of answers until somebody runs it again.", True),
    ("delete", "Delete late", "the name goes on counting", True),
]


@pytest.mark.parametrize(("action", "button", "sentence", "grave"), PAGES)
def test_each_action_has_a_page_that_says_what_will_be(
    shown: Console, action: str, button: str, sentence: str, grave: bool
) -> None:
    """One form to the action's own address, whose button repeats verb and object; grave ones look like it."""
    page = shown.page(f"{HERE}/{action}")
    assert page.count("<form ") == 1
    assert f'<form method="post" action="{HERE}/{action}"' in page
    assert re.findall(r"<button[^>]*>([^<]*)</button>", page) == [button]
    assert sentence in text(page)
    assert ('class="danger"' in page) == grave
    assert f'<a class="cancel" href="{HERE}">Cancel</a>' in page
    # Looking is not doing.
    assert wished(shown)["number"] == 1


def test_the_deployments_page_leads_to_every_action_that_is_possible(deployed: Console) -> None:
    """Stop while it runs, run while it is stopped, clear only where there is a challenger."""
    page = deployed.page(HERE)
    assert {action for action in ("challenger", "clear", "stop", "run", "delete") if f'href="{HERE}/{action}"' in page} == {
        "challenger", "clear", "stop", "delete",
    }  # fmt: skip
    deployed.world.do("stop")
    deployed.world.http.delete(f"/api{HERE}/challenger")
    page = deployed.page(f"{HERE}/status")
    assert {action for action in ("challenger", "clear", "stop", "run", "delete") if f'href="{HERE}/{action}"' in page} == {
        "challenger", "run", "delete",
    }  # fmt: skip


DEEDS = [
    ("challenger", {"version": "3"}, "challenger set", lambda wish: wish["challenger"]["version"] == 3),
    ("clear", {}, "challenger cleared", lambda wish: wish["challenger"] is None),
    ("stop", {}, "stopped", lambda wish: wish["running"] is False),
]


@pytest.mark.parametrize(("action", "form", "verb", "so"), DEEDS)
def test_an_action_sent_twice_is_one_revision_with_its_reason(
    deployed: Console, action: str, form: dict[str, str], verb: str, so: Any
) -> None:
    """The second click of two finds it done; banner, history and audit tell it once."""
    answers = [deployed.post(f"{HERE}/{action}", why="says Ana", **form) for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {f"{HERE}?done=2"}
    assert so(wished(deployed))
    assert numbers(deployed) == [2, 1]
    applied(deployed)
    assert f"Revision 2: {verb} by admin" in text(deployed.page(HERE, done=2))
    trail = deployed.world.http.get("/api/audit", params={"object": f"deployment/{NAME}"}).json()
    assert [one["reason"] for one in trail] == ["says Ana", "first deployment"]


def test_what_was_stopped_runs_again(deployed: Console) -> None:
    """The page is there only while it is stopped; the same version answers afterwards."""
    assert deployed.world.http.get(f"{HERE}/run").status_code == 409
    deployed.post(f"{HERE}/stop")
    applied(deployed)
    page = text(deployed.page(f"{HERE}/run"))
    assert "no, stopped yes" in page
    assert deployed.post(f"{HERE}/run").headers["location"] == f"{HERE}?done=3"
    observed = applied(deployed)
    assert observed["main"]["ref"]["version"] == 1
    assert observed["running"]["state"] == "yes"


IMPOSSIBLE = [("run", "is to run already"), ("rollback/1", "is wished already"), ("rollback/9", "no such revision")]


@pytest.mark.parametrize(("action", "words"), IMPOSSIBLE)
def test_what_cannot_be_done_has_no_page(shown: Console, action: str, words: str) -> None:
    """A sentence instead of a button that would do nothing."""
    answer = shown.world.http.get(f"{HERE}/{action}")
    assert answer.status_code in (404, 409)
    assert words in answer.text
    assert "<button" not in answer.text


@pytest.mark.parametrize(("action", "gone"), [("clear", "has no challenger"), ("swap", "has no challenger to swap with")])
def test_without_a_challenger_there_is_none_to_clear_or_swap(deployed: Console, action: str, gone: str) -> None:
    """The same sentence by page and, for a swap, by the action itself."""
    deployed.post(f"{HERE}/clear")
    answer = deployed.world.http.get(f"{HERE}/{action}")
    assert (answer.status_code, gone in answer.text) == (409, True)
    if action == "swap":
        assert deployed.post(f"{HERE}/swap", leaving=deployed.digests[1]).status_code == 409
    assert numbers(deployed) == [2, 1]


def test_challengers_to_choose_from_are_the_others(shown: Console) -> None:
    """Neither main nor the present challenger, which would change nothing."""
    page = shown.page(f"{HERE}/challenger")
    assert re.findall(r'<option value="(\d+)">v', page) == ["3"]
    assert "runs code" not in page


def test_a_model_of_one_version_says_how_to_get_another(tmp_path: Path) -> None:
    """No empty list, no button."""
    with console(tmp_path) as found:
        found.world.register(1)
        found.world.put()
        page = found.page(f"{HERE}/challenger")
    assert "There is no other version of flights" in page
    assert "<button" not in page


@pytest.mark.parametrize(("form", "status"), [({}, 422), ({"code": "true"}, 303)])
def test_a_challenger_that_runs_code_must_be_allowed_to(deployed: Console, form: dict[str, str], status: int) -> None:
    """The page offers the permission where it is needed; without it the refusal says so and nothing changes."""
    deployed.world.register(4, form="joblib", trust="code")
    assert 'name="code"' in deployed.page(f"{HERE}/challenger")
    answer = deployed.post(f"{HERE}/challenger", version="4", **form)
    assert answer.status_code == status
    assert wished(deployed)["challenger"]["version"] == (4 if status == 303 else 2)
    if status == 422:
        assert "trust: code" in answer.text
        assert "Nothing was changed." in answer.text


def test_a_challenger_with_other_features_is_refused(deployed: Console) -> None:
    """The sentence names the difference."""
    deployed.world.register(4, features={"hour": "float"})
    answer = deployed.post(f"{HERE}/challenger", version="4")
    assert (answer.status_code, "it does not take feature distance" in answer.text) == (422, True)
    assert numbers(deployed) == [1]


@pytest.mark.parametrize("typed", ["", "Late", "late-2", "<b>late</b>"])
def test_delete_wants_the_name_again(shown: Console, typed: str) -> None:
    """Another name deletes nothing; the page says so, keeps the reason, and repeats no markup."""
    answer = shown.post(f"{HERE}/delete", repeated=typed, why="not needed any more")
    assert answer.status_code == 422
    assert "This is not its name. Nothing was changed." in text(answer.text)
    assert 'value="not needed any more"' in answer.text
    assert "<b>late" not in answer.text
    assert wished(shown)["number"] == 1


def test_a_deletion_sent_twice_is_one(deployed: Console) -> None:
    """Both clicks lead to the list, which has it no more; the trail tells it once, with the reason."""
    answers = [deployed.post(f"{HERE}/delete", repeated=NAME, why="replaced") for _ in range(2)]
    assert {(answer.status_code, answer.headers["location"]) for answer in answers} == {(303, "/deployments")}
    assert "No deployment yet" in deployed.page("/deployments")
    assert deployed.world.http.get(HERE).status_code == 404
    trail = deployed.world.http.get("/api/audit", params={"object": f"deployment/{NAME}"}).json()
    assert (trail[0]["verb"], trail[0]["reason"]) == ("delete", "replaced")
    assert len(trail) == 2


@pytest.mark.parametrize("action", ["challenger", "clear", "run", "stop", "delete", "swap", "rollback/1", "try"])
def test_no_action_is_open_to_another_site(shown: Console, action: str) -> None:
    """Every form's address refuses a foreign origin before it looks at anything."""
    form = {"repeated": NAME, "version": "3", "leaving": shown.digests[1]}
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        answer = shown.world.http.post(f"{HERE}/{action}", data=form, headers=headers)
        assert (answer.status_code, "Another site" in answer.text) == (403, True)
    assert wished(shown)["number"] == 1


def test_an_older_swap_page_cannot_undo_a_newer_swap(deployed: Console) -> None:
    """Two people look at the same page: the second one's wish is fulfilled, and nothing goes back and forth."""
    leaving = field(deployed.page(f"{HERE}/swap"), "leaving")
    for who in ("Ana", "Ben"):
        assert deployed.post(f"{HERE}/swap", leaving=leaving, why=who).status_code == 303
    assert (wished(deployed)["main"]["version"], numbers(deployed)) == (2, [2, 1])


def test_the_way_back_skips_what_was_rolled_back_from(deployed: Console) -> None:
    """The history calls it rejected; the previous revision is the last good one before it."""
    deployed.world.put(main=3, challenger=2)
    applied(deployed)
    deployed.world.do("rollback")
    applied(deployed)
    deployed.world.put(challenger=2, description="a better description")
    applied(deployed)
    rows = re.findall(r"(active|previous|rejected|superseded) (\d) \d{4}-", text(deployed.page(f"{HERE}/revisions")))
    assert rows == [("active", "4"), ("superseded", "3"), ("rejected", "2"), ("superseded", "1")]
    answer = deployed.world.http.post(f"/api{HERE}/rollback", json={"leaving": deployed.digests[1]})
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing-to-go-back-to")
    # By its number it can be had all the same: people may change their minds.
    assert deployed.world.do("rollback", revision=2)["revision"] == 5
