"""Versions, runs, stages, test queries, actions and the trail in the console."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.api.test_console_access import page, post
from tests.api.test_console_pages import Document, text
from tests.deployer_world import World
from tests.promotion_world import MODEL, NAME, Stages, stages

VERSION = f"/models/{MODEL}/versions"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """Version 1 is deployed; 3 answers otherwise in the middle of the day, and nothing uses it."""
    with stages(tmp_path_factory.mktemp("registry")) as found:
        found.publish(1)
        found.publish(3)
        found.deploy()
        yield found


@pytest.fixture(scope="module")
def here(made: Stages) -> World:
    """The deployer."""
    return made.world


@pytest.mark.parametrize("path", [f"{VERSION}/1", f"/deployments/{NAME}/queries", f"/deployments/{NAME}/promote",
                                  f"{VERSION}/3/deprecate", f"{VERSION}/3/delete"])  # fmt: skip
def test_each_page_is_whole_without_scripts(here: World, path: str) -> None:
    """One heading, the CLI line, the JSON twin, tables with caption and scope, fields with labels."""
    html = page(here, path)
    found = Document(html)
    assert (len(found.all("h1")), html.count("<title>")) == (1, 1)
    assert "Same in the CLI: <code>quarterdeck " in html
    assert len(found.all("caption")) == len(found.all("table"))
    assert all(cell.get("scope") for cell in found.all("th"))
    labels = {label.get("for") for label in found.all("label")}
    typed = [one for tag in ("input", "select", "textarea") for one in found.all(tag)]
    assert [one for one in typed if one.get("type") not in ("hidden", "checkbox") and one["id"] not in labels] == []


def test_a_version_shows_where_it_comes_from_and_what_needs_it(here: World) -> None:
    """Digest, lineage, environment, uses; one that is in use offers no deletion."""
    first, third = page(here, f"{VERSION}/1"), page(here, f"{VERSION}/3")
    digest = here.http.get(f"/api{VERSION}/1").json()["digest"]
    assert digest in first
    assert f'<a href="/deployments/{NAME}">{NAME}</a> main' in first
    assert "nothing: it may be deleted" not in first
    assert f"{VERSION}/1/delete" not in first
    assert "nothing: it may be deleted" in third
    assert f"/models/{MODEL}/compare?a=1&amp;b=3" in third
    assert "Training data" in third
    refused = post(here, f"{VERSION}/1/delete")
    assert (refused.status_code, "Nothing was changed." in refused.text) == (409, True)


def test_notes_and_labels_are_what_the_form_says(here: World) -> None:
    """A line that is gone takes its label away; what is no label is refused by name."""
    answer = post(here, f"{VERSION}/3/marks", notes="<b>good</b>", labels="team=ops\r\nreviewed=yes\r\n", why="review")
    assert answer.headers["location"] == f"{VERSION}/3"
    assert "&lt;b&gt;good&lt;/b&gt;" in page(here, f"{VERSION}/3")
    post(here, f"{VERSION}/3/marks", notes="<b>good</b>", labels="team=data")
    found = here.http.get(f"/api{VERSION}/3").json()
    assert (found["labels"], found["notes"]) == ({"team": "data"}, "<b>good</b>")
    refused = post(here, f"{VERSION}/3/marks", labels="Not A Key=1")
    assert (refused.status_code, here.http.get(f"/api{VERSION}/3").json()["labels"]) == (422, {"team": "data"})


def test_a_version_is_deprecated_and_back_again(here: World) -> None:
    """A double click does it once: the form says which way."""
    assert "Deprecate late v3" in page(here, f"{VERSION}/3/deprecate")
    for _ in range(2):
        post(here, f"{VERSION}/3/deprecate", deprecated="true", why="wrong month")
    assert "wrong month" in text(page(here, f"{VERSION}/3"))
    assert "Undeprecate late v3" in page(here, f"{VERSION}/3/deprecate")
    post(here, f"{VERSION}/3/deprecate", deprecated="false")
    verbs = [one["verb"] for one in here.http.get("/api/audit", params={"object": f"model/{MODEL}"}).json()]
    assert (verbs.count("deprecate"), verbs.count("undeprecate")) == (1, 1)


def test_a_run_shows_its_candidates_side_by_side(here: World) -> None:
    """A name may hold anything; one that is not there is told."""
    digests = {number: here.register(number, "flights", run="a/b <c>", metrics={"brier": number / 10}) for number in (1, 2)}
    assert len(digests) == 2
    shown = page(here, "/models/flights/run?name=a%2Fb+%3Cc%3E")
    assert re.search(r"brier 0\.2000 0\.1000", text(shown))
    assert "Run a/b &lt;c&gt;" in shown
    here.ok(here.http.patch("/api/models/flights", json={"notes": "Of 2025.", "labels": {"team": "ops"}}))
    assert "Of 2025. team=ops" in text(page(here, "/models/flights"))
    assert "/models/flights/run?name=a/b%20%3Cc%3E" in page(here, "/models/flights")
    assert here.http.get("/models/flights/run?name=nope", headers={"accept": "text/html"}).status_code == 404


def test_test_queries_are_asked_of_versions_side_by_side(here: World) -> None:
    """What is not as expected and what differs from the first is tagged with the words why."""
    saved = post(here, f"/deployments/{NAME}/queries", query="lunch", expected="yes", **{"f.hour": "13", "f.distance": "1300"})
    assert saved.headers["location"] == f"/deployments/{NAME}/queries"
    assert "lunch" in page(here, saved.headers["location"])
    ran = text(post(here, f"/deployments/{NAME}/queries/run", versions=["1", "3"]).text)
    assert re.search(r"lunch 0 yes yes \S+ ● as expected no \S+ ✕ not as expected another label than expected", ran)
    assert re.search(r"v1: no query failed; +v3: \d quer(y|ies) failed", ran)
    many = post(here, f"/deployments/{NAME}/queries/run", versions=[str(one) for one in range(1, 8)])
    assert (many.status_code, '<a href="#versions">' in many.text) == (422, True)
    assert post(here, f"/deployments/{NAME}/queries/lunch/delete").status_code == 303
    assert post(here, f"/deployments/{NAME}/queries/lunch/delete").status_code == 303
    assert "lunch" not in [one["name"] for one in here.http.get(f"/api/deployments/{NAME}/test-queries").json()]


def test_a_query_with_a_mistake_keeps_what_was_typed(here: World) -> None:
    """And is not saved."""
    answer = post(here, f"/deployments/{NAME}/queries", query="Lunch!", expected="no", **{"f.hour": "noon", "f.distance": "1"})
    assert answer.status_code == 422
    assert '<a href="#f.hour">hour</a>: must be a number' in answer.text
    assert '<a href="#query">query</a>' in answer.text
    assert 'value="noon"' in answer.text
    assert "<option selected>no</option>" in answer.text


def test_the_gates_of_a_stage_are_set_by_a_form(here: World) -> None:
    """Those that are ticked, with their numbers; what is wrong is told at the field."""
    shown = page(here, "/stages/prod")
    assert 'value="replay" checked' in shown
    kept = {"position": "2", "infrastructure": "local"}
    sent = {"gates": ["golden", "schema"], "schema.days": "30", "replay.rows": "", "approval": "true", "why": "audit", **kept}
    assert post(here, "/stages/prod", **sent).headers["location"] == "/stages/prod"
    found = here.http.get("/api/stages/prod").json()
    assert found["gates"] == [{"gate": "golden"}, {"gate": "schema", "days": 30}]
    assert (found["approval"], found["position"]) == (True, 2)
    wrong = post(here, "/stages/prod", gates="schema", **{"schema.days": "1000"}, **kept)
    assert (wrong.status_code, "The stage was not changed" in wrong.text) == (422, True)
    assert "golden, schema days 30 must approve" in text(page(here, "/stages"))
    assert NAME in page(here, "/stages/dev")


def test_a_promotion_begins_on_a_page_and_once(here: World) -> None:
    """The form offers the next stage first, and names the revision that it was made for."""
    shown = page(here, f"/deployments/{NAME}/promote")
    assert '<option value="staging" selected>' in shown
    number = here.get(NAME)["wish"]["number"]
    stale = post(here, f"/deployments/{NAME}/promote", to="staging", version="1", seen=str(number + 1))
    assert (stale.status_code, "has changed meanwhile" in stale.text) == (409, True)
    begun = post(here, f"/deployments/{NAME}/promote", to="staging", version="1", seen=str(number), why="the review")
    assert begun.headers["location"].startswith("/promotions/")
    assert "the review" in text(page(here, begun.headers["location"]))


def test_actions_tell_how_they_ended(here: World) -> None:
    """Of one deployment and in one state; a filter without a hit says how to get out of it."""
    shown = text(page(here, "/actions"))
    assert re.search(rf"◐ accepted {NAME} created 1 ", shown)
    here.do("stop", NAME, why="lunch")
    overtaken = here.until(
        lambda: "○ overtaken" in page(here, f"/actions?deployment={NAME}&state=overtaken").replace("</span>", "")
    )
    assert overtaken
    assert "No action is like that" in page(here, "/actions?deployment=nope")
    assert "No action is like that" in page(here, "/actions?state=failed")
    assert page(here, "/actions?state=%3Cscript%3E").count("<script>") == 0


def test_the_trail_is_filtered_and_keeps_its_filter_from_page_to_page(here: World) -> None:
    """Of one object, by one person, of one kind."""
    for number in range(52):
        here.http.patch(f"/api/models/{MODEL}", json={"notes": f"note {number}"}).raise_for_status()
    shown = page(here, f"/audit?object=model/{MODEL}&verb=annotate")
    older = re.search(r'<a href="(/audit\?[^"]*before=[^"]*)">older</a>', shown)
    assert older is not None
    assert "verb=annotate" in older[1]
    rest = text(page(here, older[1].replace("&amp;", "&")))
    assert " annotate " in rest
    assert " register " not in rest
    assert "No entry is like that" in page(here, "/audit?who=nobody")


def test_the_trail_is_held_against_its_seals(here: World) -> None:
    """Whole as it is, also with an entry that was noted; another seal, or an entry that is missing, breaks it."""
    whole = page(here, "/audit/verify")
    head = re.search(r'<code id="head">(\d+):([0-9a-f]{64})</code>', whole)
    assert head is not None
    assert "● whole" in text(whole)
    assert f"entry {head[1]} as it was noted" in text(page(here, f"/audit/verify?sequence={head[1]}&sha256={head[2]}"))
    assert "✕ broken" in text(page(here, f"/audit/verify?sequence={head[1]}&sha256={64 * '0'}"))
    assert "✕ broken" in text(page(here, f"/audit/verify?sequence={int(head[1]) + 9}&sha256={head[2]}"))
