"""The pages beside the deployments, by clicks: people, projects, infrastructures, keys, versions, test queries, stages, audit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import chromium, watched
from tests.console_furnished import Furnished, furnish
from tests.deployer_world import ADMIN, World
from tests.promotion_world import MODEL, NAME, stages

pytestmark = pytest.mark.browser


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    """Two real versions, of which the first is deployed."""
    with stages(tmp_path) as found:
        found.publish(1)
        found.publish(3)
        found.deploy()
        yield found.world


def test_every_room_by_clicks(here: World) -> None:
    """Each does what its form says; no page breaks the policy, nor scrolls sideways on a screen of 320 pixels."""
    made, base = furnish(here), str(here.http.base_url).rstrip("/")
    with chromium() as browser:
        page, seen = watched(browser, width=1280)
        page.goto(f"{base}/login?token={ADMIN}")
        people(page)
        projects(page)
        nodes(page)
        keys(page)
        versions(page)
        queries(page, base)
        gates(page)
        trail(page)
        page.set_viewport_size({"width": 320, "height": 800})
        for path in rooms(made):
            page.goto(base + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
        assert seen.errors == []
        assert [url for url in seen.requests if not url.startswith((base, "data:"))] == []


def rooms(made: Furnished) -> list[str]:
    """The pages that are looked at on a small screen."""
    return ["/people", f"/people/{made.people['dora']}", "/projects", "/projects/delays", "/infrastructures",
            "/infrastructures/edge", "/infrastructures/edge/nodes/edge-main-2", "/keys", "/stages", "/stages/prod",
            f"/models/{MODEL}/versions/1", f"/deployments/{NAME}/queries", f"/deployments/{NAME}/promote", "/actions",
            "/audit", "/audit/verify"]  # fmt: skip


def room(page: Page, name: str) -> None:
    """Go there by the navigation."""
    page.get_by_role("navigation", name="Console").get_by_role("link", name=name, exact=True).click()


def people(page: Page) -> None:
    """Let somebody in, then give them another role."""
    room(page, "People")
    page.get_by_label("Name").fill("Eve Stone")
    page.get_by_label("Address").fill("eve@example.org")
    page.get_by_role("button", name="Let in").click()
    expect(page.get_by_role("heading", name="Eve Stone")).to_be_visible()
    page.get_by_label("Role").select_option("approver")
    page.get_by_role("button", name="Change Eve Stone").click()
    expect(page.get_by_label("Role")).to_have_value("approver")


def projects(page: Page) -> None:
    """Make one, and look into another."""
    room(page, "Projects")
    page.get_by_label("Name").fill("taxis")
    page.get_by_role("button", name="Create project").click()
    expect(page.get_by_role("heading", name="No deployment in it")).to_be_visible()


def nodes(page: Page) -> None:
    """See a day's curves, make a join token, send a node away."""
    room(page, "Infrastructures")
    page.get_by_role("link", name="edge", exact=True).click()
    expect(page.get_by_role("img", name="Memory of the last 24 hours")).to_be_visible()
    page.get_by_label("Role").select_option("challenger")
    page.get_by_role("button", name="Make join token").click()
    expect(page.get_by_role("status").first).to_contain_text("quarterdeck node join http://127.0.0.1:")
    page.get_by_role("link", name="edge-main-1", exact=True).click()
    page.get_by_role("link", name="Revoke…").click()
    page.get_by_role("button", name="Revoke node edge-main-1").click()
    expect(page.get_by_role("row", name="edge-main-1")).to_contain_text("revoked")


def keys(page: Page) -> None:
    """Put a new secret in the place of one."""
    room(page, "Keys")
    page.get_by_role("link", name="Rotate… booking").click()
    page.get_by_label("Overlap").fill("2")
    page.get_by_role("button", name="Rotate key booking").click()
    expect(page.get_by_role("status")).to_contain_text("qdk_")
    expect(page.get_by_role("status")).to_contain_text("goes on until")


def versions(page: Page) -> None:
    """Say something of a version."""
    room(page, "Models")
    page.get_by_role("link", name=MODEL, exact=True).click()
    page.get_by_role("link", name="v3", exact=True).click()
    page.get_by_role("textbox", name="Labels").fill("team=ops")
    page.get_by_role("button", name="Save notes and labels").click()
    expect(page.get_by_role("textbox", name="Labels")).to_have_value("team=ops\n")


def queries(page: Page, base: str) -> None:
    """Ask both versions what was saved."""
    page.goto(f"{base}/deployments/{NAME}")
    page.get_by_role("link", name="test queries").click()
    page.get_by_label("Name").fill("lunch")
    page.get_by_label("Expected answer").select_option("yes")
    page.get_by_label("hour").fill("13")
    page.get_by_role("button", name="Save test query").click()
    page.get_by_label("v3").check()
    page.get_by_role("button", name="on these versions").click()
    expect(page.get_by_role("row", name="lunch").first).to_contain_text("not as expected")


def gates(page: Page) -> None:
    """Ask for a second person."""
    room(page, "Stages")
    page.get_by_role("link", name="prod", exact=True).click()
    page.get_by_label("A second person must approve").check()
    page.get_by_role("button", name="Change stage prod").click()
    expect(page.get_by_label("A second person must approve")).to_be_checked()


def trail(page: Page) -> None:
    """What was done stands there, and the seals hold."""
    room(page, "Audit")
    page.get_by_label("What").fill("rotate")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("link", name="key/")).to_be_visible()
    page.get_by_role("link", name="Is the trail whole?").click()
    expect(page.get_by_role("main")).to_contain_text("● whole")
