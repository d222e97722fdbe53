"""The console in a real Chromium: the main path by clicks and by keys, live states, and nothing that the policy forbids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import Seen, chromium, watched
from tests.console_world import NAME, Console, console, living
from tests.deployer_world import ADMIN

pytestmark = pytest.mark.browser
PATHS = ["/docs", "/deployments", f"/deployments/{NAME}", f"/deployments/{NAME}/swap", f"/deployments/{NAME}/challenger",
         f"/deployments/{NAME}/delete", f"/deployments/{NAME}/try", "/models", "/models/flights", "/keys", "/audit"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file."""
    with chromium() as found:
        yield found


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Console]:
    """A deployment with records, whose nodes live."""
    with console(tmp_path / "deployer") as found:
        found.deploy()
        (tmp_path / "records").mkdir()
        found.record(tmp_path / "records")
        with living(found):
            yield found


def quiet(seen: Seen, found: Console) -> None:
    """No error, no report of the policy, no request to anybody else."""
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith((found.base, "data:"))] == []


def test_the_main_path_by_clicks(browser: Browser, deployed: Console) -> None:
    """See what is deployed, try it, swap, roll back; the states follow without a reload."""
    page, seen = watched(browser)
    page.goto(deployed.login)
    page.get_by_role("link", name=NAME, exact=True).click()
    expect(page.locator("#status")).to_contain_text("flights v1 answers on 1 of 1 nodes.")

    page.get_by_label("hour").fill("18")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#answers .answer")).to_contain_text(["main flights v1", "challenger flights v2"])

    page.goto(f"{deployed.base}/deployments/{NAME}")
    page.get_by_role("link", name="Swap main and challenger…").click()
    page.get_by_label("Why").fill("closer to the truth")
    page.get_by_role("button", name="Swap to flights v2").click()
    expect(page.get_by_role("status").first).to_contain_text("flights v2 answers.")
    expect(page.locator("#revisions")).to_contain_text("closer to the truth")

    page.get_by_role("link", name="Roll back… to revision 1").click()
    page.get_by_role("button", name="Roll back to flights v1").click()
    expect(page.get_by_role("status").first).to_contain_text("rolled back by admin (console)")
    expect(page.locator("#status")).to_contain_text("flights v1 answers on 1 of 1 nodes.")
    expect(page.locator("#revisions")).to_contain_text("✕ rejected")
    quiet(seen, deployed)


def test_the_main_path_by_keys_alone(browser: Browser, deployed: Console) -> None:
    """From the list to the swap with Tab and Enter; where the focus is can always be seen."""
    page, seen = watched(browser)
    page.goto(deployed.login)
    follow(page, NAME)
    follow(page, "Swap main and challenger…")
    follow(page, "Swap to flights v2")
    expect(page.get_by_role("status").first).to_contain_text("flights v2 answers.")
    quiet(seen, deployed)


def follow(page: Page, name: str) -> None:
    """Tab to the link or button with these words, see that it shows its focus, and press Enter."""
    page.wait_for_load_state()
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.count() and focused.inner_text().strip() == name:
            width = focused.evaluate("element => getComputedStyle(element).outlineWidth")
            assert float(width.removesuffix("px")) >= 2
            with page.expect_navigation():
                page.keyboard.press("Enter")
            return
    raise AssertionError(f"Tab never came to {name}")


def test_a_double_click_makes_one_revision(browser: Browser, deployed: Console) -> None:
    """The second click goes nowhere."""
    page, seen = watched(browser)
    page.goto(deployed.login)
    page.goto(f"{deployed.base}/deployments/{NAME}/swap")
    page.get_by_role("button", name="Swap to flights v2").dblclick()
    expect(page.get_by_role("status").first).to_contain_text("Revision 2: swapped")
    assert deployed.world.get()["wish"]["number"] == 2
    quiet(seen, deployed)


def test_states_are_refreshed_without_moving_the_focus(browser: Browser, deployed: Console) -> None:
    """What another person does is seen here within seconds, and who types goes on typing."""
    page, seen = watched(browser)
    page.goto(deployed.login)
    page.goto(f"{deployed.base}/deployments/{NAME}")
    page.get_by_label("hour").fill("1")
    deployed.world.do("swap")
    expect(page.locator("#status")).to_contain_text("flights v2 answers on 1 of 1 nodes.")
    expect(page.locator("#revisions")).to_contain_text("● active 2", use_inner_text=True)
    expect(page.get_by_label("hour")).to_be_focused()
    quiet(seen, deployed)


def test_states_turn_grey_when_the_deployer_is_gone(browser: Browser, deployed: Console) -> None:
    """The last known state is marked as such: nothing stays green that nobody confirms."""
    page, _ = watched(browser)
    page.goto(deployed.login)
    page.goto(f"{deployed.base}/deployments/{NAME}")
    good = page.locator("#status .tag").first
    green = good.evaluate("element => getComputedStyle(element).color")
    page.context.set_offline(True)
    expect(page.locator("#status")).to_contain_text("no answer from the deployer")
    assert good.evaluate("element => getComputedStyle(element).color") != green


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_breaks_the_policy_or_scrolls_sideways(browser: Browser, deployed: Console, scheme: str) -> None:
    """Also on a screen of 320 pixels, where tables scroll in their own box."""
    page, seen = watched(browser, width=320, scheme="dark" if scheme == "dark" else "light")
    page.goto(deployed.login)
    for path in PATHS:
        page.goto(deployed.base + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
    quiet(seen, deployed)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_browser_logs_in_by_the_form(browser: Browser, deployed: Console, scripts: bool) -> None:
    """The form names its origin, so the edge takes it; the token is in no address, and a wrong one is told."""
    page, seen = watched(browser, width=320, scripts=scripts)
    page.goto(f"{deployed.base}/deployments/{NAME}")
    assert page.url == f"{deployed.base}/login"
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.get_by_label("Admin token").fill("not the token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not the admin token")
    page.get_by_label("Admin token").fill(ADMIN)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Deployments")).to_be_visible()
    assert not [url for url in seen.requests if ADMIN in url]


def test_a_deployment_is_stopped_run_and_deleted_by_clicks(browser: Browser, deployed: Console) -> None:
    """Each by its page; a wrong name deletes nothing, the right one leads to the list."""
    page, seen = watched(browser)
    page.goto(deployed.login)
    for action, outcome in (("Stop", "Stopped by wish."), ("Run", "flights v1 answers on 1 of 1 nodes.")):
        page.goto(f"{deployed.base}/deployments/{NAME}")
        page.get_by_role("link", name=f"{action}…", exact=True).click()
        page.get_by_role("button", name=f"{action} {NAME}").click()
        expect(page.locator("#status")).to_contain_text(outcome)
    page.get_by_role("link", name="Clear challenger…").click()
    page.get_by_role("button", name="Clear challenger flights v2").click()
    expect(page.locator("#status")).to_contain_text("No challenger answers beside main.")
    quiet(seen, deployed)
    page.get_by_role("link", name="Delete…").click()
    page.get_by_label("Name").fill("other")
    page.get_by_role("button", name=f"Delete {NAME}").click()
    expect(page.get_by_role("alert")).to_contain_text("This is not its name. Nothing was changed.")
    page.get_by_label("Name").last.fill(NAME)
    page.get_by_role("button", name=f"Delete {NAME}").click()
    expect(page.get_by_role("heading", name="No deployment yet")).to_be_visible()


def test_everything_works_without_scripts(browser: Browser, deployed: Console) -> None:
    """Forms are sent and pages are whole when JavaScript is off."""
    page, seen = watched(browser, scripts=False)
    page.goto(deployed.login)
    page.goto(f"{deployed.base}/deployments/{NAME}/swap")
    page.get_by_role("button", name="Swap to flights v2").click()
    expect(page.get_by_role("status").first).to_contain_text("Revision 2: swapped")
    expect(page.get_by_role("button", name="copy")).to_have_count(0)
    quiet(seen, deployed)
