"""The console as a browser without scripts sees it: whole pages, honest states, actions by forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from quarterdeck_deployer.console.rendering import ASSETS
from tests.console_world import NAME, Console, console

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PATHS = ["/deployments", f"/deployments/{NAME}", f"/deployments/{NAME}/swap", f"/deployments/{NAME}/challenger",
         f"/deployments/{NAME}/clear", f"/deployments/{NAME}/stop", f"/deployments/{NAME}/delete", f"/deployments/{NAME}/try",
         "/models", "/models/flights", "/models/flights/compare?a=1&b=2", "/keys", "/audit", "/audit/verify", "/actions",
         "/promotions", "/stages", "/stages/prod", "/infrastructures", "/infrastructures/local",
         "/infrastructures/local/nodes/main", "/projects", "/projects/default", "/people"]  # fmt: skip
VOID = {"meta", "link", "input", "img", "br", "hr", "option"}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Console]:
    """Nothing deployed."""
    with console(tmp_path) as found:
        yield found


@pytest.fixture
def deployed(empty: Console) -> Console:
    """Version 1 is main, 2 its challenger; both nodes have said so."""
    empty.deploy()
    return empty


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The same as `deployed`, for tests that only look."""
    with console(tmp_path_factory.mktemp("shown")) as found:
        found.deploy()
        yield found


class Document(HTMLParser):
    """What a page consists of; refuses what is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        # Of options the end may be left out, as everywhere in HTML.
        assert tag == "option" or self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]


def text(html: str) -> str:
    """The words of a page, one blank between them."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def field(html: str, name: str) -> str:
    """What stands in a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None
    return found[1]


def test_the_root_leads_to_the_deployments(empty: Console) -> None:
    """So does the login."""
    answer = empty.world.http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/deployments")


@pytest.mark.parametrize("path", PATHS)
def test_each_page_is_whole_without_scripts(shown: Console, path: str) -> None:
    """One heading, a title, the CLI line, the JSON twin, tables with caption and scope, named fields, nothing inline."""
    html = shown.page(path)
    page = Document(html)
    assert html.startswith("<!doctype html>")
    assert len(page.all("h1")) == 1
    assert html.count("<title>") == 1
    assert "Same in the CLI: <code>quarterdeck " in html
    assert any((link["href"] or "").startswith("/api/") for link in page.all("a"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(cell.get("scope") for cell in page.all("th"))
    labels = {label.get("for") for label in page.all("label")}
    typed = [one for tag in ("input", "select") for one in page.all(tag) if one.get("type") not in ("hidden", "checkbox")]
    assert all(one["id"] in labels for one in typed)
    assert all(script["src"] for script in page.all("script"))
    assert page.all("style") == []
    assert all(time["datetime"] for time in page.all("time"))


@pytest.mark.parametrize("path", PATHS)
def test_no_page_holds_what_the_policy_forbids_or_a_library_would_evaluate(shown: Console, path: str) -> None:
    """No style, no handler, no expression; nothing from elsewhere."""
    for tag, attributes in Document(shown.page(path)).elements:
        assert not [name for name in attributes if name.startswith(("on", "hx-on", "hx-vals", "hx-confirm")) or name == "style"]
        assert "[" not in (attributes.get("hx-trigger") or "")
        loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        assert loaded is None or loaded.startswith("/static/")
        assert "javascript:" not in str(attributes)


@pytest.mark.parametrize("path", [*PATHS, "/deployments/nope", "/static/console.css"])
def test_every_answer_carries_the_content_policy(shown: Console, path: str) -> None:
    """Scripts and styles come from here or do not run."""
    answer = shown.world.http.get(path)
    directives = {part.strip() for part in answer.headers["content-security-policy"].split(";")}
    assert directives == {part.strip() for part in CSP.split(";")}


def test_every_twin_link_leads_to_json(shown: Console) -> None:
    """The same for programs."""
    for path in PATHS:
        twin = re.search(r'<a href="(/api/[^"]*)">JSON</a>', shown.page(path))
        assert twin is not None
        assert shown.world.http.get(unescape(twin[1])).headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/deployments", "No deployment yet"),
        ("/models", "No model yet"),
        ("/promotions", "Nothing has been promoted yet"),
        ("/keys", "No key yet"),
        ("/audit", "Nothing has been done yet"),
    ],
)
def test_an_empty_list_says_what_to_do(empty: Console, path: str, words: str) -> None:
    """Heading, one sentence, and the command or the form that ends the emptiness."""
    assert words in empty.page(path)


def test_pages_need_a_login(empty: Console) -> None:
    """Without a session a browser is sent to the login."""
    with httpx.Client(base_url=empty.base) as stranger:
        answer = stranger.get("/deployments", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_the_list_shows_both_states_and_both_versions(shown: Console) -> None:
    """Deployed, running, main, challenger and the last change."""
    shown.settle()
    words = text(shown.page("/deployments"))
    assert f"{NAME} dev ● yes ● yes flights v1" in words
    assert "admin · create" in words


def test_states_are_unknown_and_never_green_while_no_node_speaks(empty: Console) -> None:
    """A wish alone makes nothing true."""
    empty.world.register(1)
    empty.world.put()
    for path in ("/deployments", f"/deployments/{NAME}/status"):
        html = empty.page(path)
        assert html.count('<span class="tag unknown">') >= 2
        assert "tag good" not in html
    status = text(empty.page(f"/deployments/{NAME}/status"))
    assert "No main node has ever reported." in status
    assert "Not so yet: no live main node has reported" in status


def test_a_refused_version_is_named_and_what_serves_stays(deployed: Console) -> None:
    """The page tells the wish, why it does not come, and what answers meanwhile."""
    digest = deployed.world.register(3)
    deployed.world.main.refuses[digest] = "golden-mismatch"
    deployed.world.put(main=3, challenger=2)
    deployed.world.until(lambda: deployed.world.get()["observed"]["hold"])
    status = text(deployed.page(f"/deployments/{NAME}/status"))
    assert "Stopped by itself" in status
    assert "row 3 gives another answer" in status
    assert "flights v1 answers on 1 of 1 nodes." in status


def test_the_mirrors_identity_stands_in_one_line(shown: Console) -> None:
    """Mirrored is the sum of what became of the rows."""
    status = text(shown.page(f"/deployments/{NAME}/status"))
    assert "mirrored 0 = answered 0 + failed 0 + expired 0 + dropped 0 + pending 0" in status


def test_without_labels_the_page_says_how_to_send_them(shown: Console) -> None:
    """And speaks of no model as better or worse."""
    html = shown.page(f"/deployments/{NAME}")
    assert "No labels have arrived" in html
    assert f"quarterdeck feedback send {NAME}" in html
    assert not re.search(r"\b(better|worse|best)\b", text(html))


def test_scores_of_both_stand_on_the_same_rows(deployed: Console, tmp_path: Path) -> None:
    """As many rows for the challenger as for main, the ledger beneath, the newest predictions after it."""
    (tmp_path / "records").mkdir()
    deployed.record(tmp_path / "records")
    words = text(deployed.page(f"/deployments/{NAME}"))
    assert "Measured on the same 38 labelled rows" in words
    assert re.search(r"main flights v1 \w+ 38 0\.\d{4} 0\.\d{4} 0\.\d{4} challenger flights v2 \w+ 38", words)
    assert "40 records, 40 of them answered by both, 38 labelled" in words
    assert "The newest 20 recorded rows" in words


def test_swap_shows_now_and_after_then_does_it_once(deployed: Console) -> None:
    """The form names the version that it leaves: a double click makes one revision."""
    form = deployed.page(f"/deployments/{NAME}/swap")
    assert "Swap to flights v2" in form
    leaving = field(form, "leaving")
    answers = [deployed.post(f"/deployments/{NAME}/swap", leaving=leaving, why="it is closer") for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {f"/deployments/{NAME}?done=2"}
    assert len(deployed.world.http.get(f"/api/deployments/{NAME}/revisions").json()) == 2
    deployed.settle()
    page = text(deployed.page(f"/deployments/{NAME}", done=2))
    assert "Revision 2: swapped by admin" in page
    assert "because: it is closer. flights v2 answers." in page


def test_rollback_shows_what_will_be_and_restores_the_pair(deployed: Console) -> None:
    """Both digests, how long it takes, what is rejected; twice sent it is one revision."""
    deployed.world.do("swap")
    deployed.settle()
    page = deployed.page(f"/deployments/{NAME}")
    assert f'href="/deployments/{NAME}/rollback/1"' in page
    form = deployed.page(f"/deployments/{NAME}/rollback/1")
    words = text(form)
    assert "Revision 2 → new revision 3, with the pair of revision 1" in words
    assert "loaded: takes less than 1 s" in words
    assert "flights v2 is rejected as main" in words
    assert "Roll back to flights v1" in words
    sent = {"leaving": field(form, "leaving"), "why": "wrong answers"}
    answers = [deployed.post(f"/deployments/{NAME}/rollback/1", **sent) for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {f"/deployments/{NAME}?done=3"}
    deployed.settle()
    assert "✕ rejected 2" in text(deployed.page(f"/deployments/{NAME}"))


def test_one_revision_leads_nowhere_back(shown: Console) -> None:
    """A sentence, and no button that would do nothing."""
    page = shown.page(f"/deployments/{NAME}")
    assert "There is nothing to go back to yet." in page
    assert "Roll back…" not in page


def test_another_sites_form_does_nothing(deployed: Console) -> None:
    """The edge refuses it before the console sees it."""
    answer = deployed.world.http.post(
        f"/deployments/{NAME}/swap", data={"leaving": deployed.digests[1]}, headers={"origin": "http://evil"}
    )
    assert answer.status_code == 403
    assert deployed.world.get()["wish"]["number"] == 1


def test_an_error_is_a_page_that_says_what_to_do(shown: Console) -> None:
    """What failed, the next step and the request's id; for an action also that nothing was changed."""
    answer = shown.world.http.get("/deployments/nope")
    assert answer.status_code == 404
    assert "There is no such deployment. There are: late." in answer.text
    assert answer.headers["x-request-id"] in answer.text
    refused = shown.post(f"/deployments/{NAME}/rollback/7", leaving=shown.digests[1])
    assert refused.status_code == 404
    assert "Nothing was changed." in refused.text
    broken = shown.post(f"/deployments/{NAME}/swap", leaving="<b>")
    assert (broken.status_code, "<b>" in broken.text) == (422, False)


def test_try_it_shows_both_answers_and_the_same_call_for_programs(deployed: Console) -> None:
    """Main by its plain door with a key, the challenger by its mirroring door."""
    page = deployed.page(f"/deployments/{NAME}/try")
    assert field(page, "f.hour") == "1"
    answer = deployed.post(f"/deployments/{NAME}/try", **{"f.hour": "7", "f.distance": "120.5"})
    assert answer.status_code == 200
    words = text(answer.text)
    assert "main flights v1" in words
    assert "late: no" in words
    assert "challenger flights v2" in words
    assert "late: yes" in words
    assert "quarterdeck predict late --row" in words
    row = {"hour": 7.0, "distance": 120.5}
    asked = sorted(deployed.doors.asked)
    assert [(path, body) for path, _, body in asked] == [
        (f"/deployments/{NAME}/predict", row),
        (f"/mirror/{NAME}", {"rows": [row]}),
    ]
    assert asked[0][1] == f"Bearer {deployed.world.deployer.console_key}"


def test_try_it_names_the_field_and_keeps_what_was_typed(shown: Console) -> None:
    """A list on top leads to the field; nothing was asked."""
    answer = shown.post(f"/deployments/{NAME}/try", **{"f.hour": "seven", "f.distance": ""})
    assert answer.status_code == 422
    assert '<a href="#f.hour">hour</a> must be a number' in answer.text
    assert field(answer.text, "f.hour") == "seven"
    assert "distance</a> is needed" in answer.text
    assert shown.doors.asked == []


def test_try_it_repeats_the_nodes_refusal(deployed: Console) -> None:
    """The node's own words, and no prediction beside them."""
    deployed.doors.refusal = {"detail": "Row 0: hour is not a number.", "hint": "Send a number."}
    answer = deployed.post(f"/deployments/{NAME}/try", **{"f.hour": "7", "f.distance": "1"})
    assert "Row 0: hour is not a number. Send a number." in text(answer.text)


def test_a_model_shows_its_versions_and_where_they_are(deployed: Console) -> None:
    """Digest, run, metrics, form and proof; the active one is marked, another one can be made active."""
    page = deployed.page("/models/flights")
    words = text(page)
    assert deployed.digests[1].removeprefix("sha256:")[:8] in words
    assert "late main" in words
    assert "late challenger" in words
    answers = [deployed.post("/models/flights/active", version="2") for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {"/models/flights"}
    assert "Activate v1" in deployed.page("/models/flights")
    assert [one["verb"] for one in deployed.world.http.get("/api/audit").json()].count("activate") == 1


def test_a_key_is_shown_once(empty: Console) -> None:
    """Its secret is in the answer to the form, and neither in the list, nor in the trail, nor in a second answer."""
    sent = {"ticket": field(empty.page("/keys"), "ticket"), "name": "booking", "scopes": "predict", "days": "90"}
    made = empty.post("/keys", **sent)
    assert made.status_code == 201
    found = re.search(r"qdk_[a-z0-9]{8}_[\w-]+_[0-9a-f]{8}", made.text)
    assert found is not None
    again = empty.post("/keys", **sent)
    assert (again.status_code, found[0] in again.text) == (409, False)
    assert all(found[0] not in empty.page(path) for path in ("/keys", "/audit"))
    assert text(empty.page("/keys")).count("booking ● valid") == 1


def test_a_key_form_with_a_mistake_keeps_what_was_typed(empty: Console) -> None:
    """And makes no key."""
    ticket = field(empty.page("/keys"), "ticket")
    answer = empty.post("/keys", ticket=ticket, name="booking", scopes="predict", days="soon")
    assert answer.status_code == 422
    assert 'value="booking"' in answer.text
    assert empty.world.http.get("/api/keys").json() == []


def test_a_key_is_revoked_on_a_page_of_its_own(empty: Console) -> None:
    """The final button repeats verb and object."""
    key = empty.world.http.post("/api/keys", json={"name": "booking"}).json()["id"]
    assert '<button class="danger">Revoke key booking</button>' in empty.page(f"/keys/{key}/revoke")
    answers = [empty.post(f"/keys/{key}/revoke") for _ in range(2)]
    assert {answer.headers["location"] for answer in answers} == {"/keys"}
    assert "booking ✕ revoked" in text(empty.page("/keys"))


def test_what_people_write_is_shown_as_text(deployed: Console) -> None:
    """A reason is no markup."""
    deployed.world.do("swap", why="<script>alert(1)</script>")
    for path in (f"/deployments/{NAME}", "/audit"):
        assert "&lt;script&gt;alert(1)" in deployed.page(path)


def test_long_histories_come_in_pages(deployed: Console) -> None:
    """Fifty rows at most, and the page says which of how many."""
    for _ in range(55):
        deployed.world.do("swap")
    first, second = (text(deployed.page(f"/deployments/{NAME}", page=number)) for number in (1, 2))
    assert "1–50 of 56" in first
    assert "51–56 of 56" in second
    assert "older" in text(deployed.page("/audit"))


def test_scripts_and_styles_are_small_and_carry_their_licence() -> None:
    """Own styles stay below 12 KB; the one library is there as published, with its licence beside it."""
    assert len(ASSETS["console.css"]) <= 12_000
    assert len(ASSETS["console.js"]) <= 3_000
    assert b"4.0.1" in ASSETS["htmx-4.0.1.min.js"][-60_000:]
    assert b"Zero-Clause BSD" in ASSETS["htmx-LICENSE.txt"]
