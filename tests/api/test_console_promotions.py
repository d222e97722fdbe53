"""Promotions in the console: what the gates have found, without a script, and a second person's buttons."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.promotion_world import NAME, Stages, stages


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stages]:
    """Version 1 is deployed; 3 answers otherwise."""
    with stages(tmp_path_factory.mktemp("data")) as found:
        found.publish(1)
        found.publish(3)
        found.deploy()
        yield found


def page(here: Stages, path: str) -> str:
    """The words of a page, one blank between them."""
    answer = here.world.http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    assert "Same in the CLI: <code>quarterdeck promotion" in answer.text or path.startswith("/deployments")
    assert answer.text.count("<h1>") == 1
    assert answer.text.count("<table>") == answer.text.count("<caption")
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_a_promotion_is_shown_with_what_its_gates_have_found(here: Stages) -> None:
    """The rows in question, the state with its reason, and where to look on."""
    assert "Nothing has been promoted yet" in page(here, "/promotions")
    body = {"rows": [{"hour": 13.0, "distance": 1300.0}], "expect": [{"prediction": "yes"}], "description": "<b>lunch</b>"}
    assert here.world.http.put(f"/api/deployments/{NAME}/test-queries/lunch", json=body).status_code == 201
    refused = here.promote("prod", version=3, why="<i>newer</i>")
    shown = page(here, f"/promotions/{refused['id']}")
    assert "refused Gate scenarios: 1 of" in shown
    assert "lunch 0 another label than expected" in shown
    assert f"quarterdeck scenario run {NAME} --version 3" in shown
    assert "&lt;i&gt;newer&lt;/i&gt;" in shown
    done = here.promote("staging")
    assert f"stage staging, revision {done['revision']}" in page(here, f"/promotions/{done['id']}")
    listed = page(here, "/promotions")
    assert listed.index(f"{NAME}-staging") < listed.index(f"{NAME}-prod")


def test_stage_and_service_stand_with_a_deployment(here: Stages) -> None:
    """In the list and on its own page."""
    here.deploy(name="beside", service=NAME)
    assert re.search(rf"beside dev {NAME} ", page(here, "/deployments"))
    assert f"Stage dev · service {NAME}" in page(here, "/deployments/beside")


def test_a_second_person_decides_by_a_button(here: Stages) -> None:
    """Whoever asked is refused on a page; a promotion that waits for nobody has no buttons."""
    here.stage("fair", approval=True)
    found = here.promote("fair")
    path = f"/promotions/{found['id']}"
    assert f"Approve promotion {found['id']}" in page(here, path)
    own = here.world.http.post(f"{path}/approve", data={"why": "mine"}, headers={"accept": "text/html"})
    assert (own.status_code, "another person must decide" in own.text) == (403, True)
    here.as_person("eve", "reject", found["id"], "not now")
    assert "by eve: not now" in page(here, path)
    assert "Approve" not in page(here, path)
    assert here.world.http.get("/promotions/999", headers={"accept": "text/html"}).status_code == 404
