"""The console of a real local system: deployer, main node and challenger node as `quarterdeck up` starts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from quarterdeck.client import HOME, TOKEN
from tests.browser.chromium import chromium, watched
from tests.local.system import LocalSystem
from tests.models import model_package

pytestmark = pytest.mark.browser


@pytest.fixture
def system(tmp_path: Path) -> Iterator[LocalSystem]:
    """Two versions of one model are deployed: one answers, the other beside it."""
    with LocalSystem(tmp_path) as found:
        main, challenger = (found.publish(model_package("binary", form)) for form in ("skops", "compiled"))
        found.deploy("late", main, challenger)
        yield found


def test_deployed_tried_swapped_and_rolled_back_by_clicks(system: LocalSystem) -> None:
    """Both real models answer the form; after the swap the other one answers, after the rollback the first again."""
    base, token = system.note.urls["console"], (system.folder / HOME / TOKEN).read_text().strip()
    with chromium() as browser:
        page, seen = watched(browser)
        page.goto(f"{base}/login?token={token}")
        page.get_by_role("link", name="late", exact=True).click()
        expect(page.locator("#status")).to_contain_text("sample v1 answers on 1 of 1 nodes.")

        page.get_by_label("hour").fill("18")
        page.get_by_role("button", name="Predict").click()
        answers = page.locator("#answers .answer")
        expect(answers).to_contain_text(["main sample v1", "challenger sample v2"])
        expect(answers.locator("meter")).to_have_count(4)

        page.goto(f"{base}/deployments/late")
        page.get_by_role("link", name="Swap main and challenger…").click()
        page.get_by_role("button", name="Swap to sample v2").click()
        expect(page.locator("#status")).to_contain_text("sample v2 answers on 1 of 1 nodes.")

        page.get_by_role("link", name="Roll back… to revision 1").click()
        page.get_by_label("Why").fill("wrong answers")
        page.get_by_role("button", name="Roll back to sample v1").click()
        expect(page.locator("#status")).to_contain_text("sample v1 answers on 1 of 1 nodes.")
        expect(page.locator("#revisions")).to_contain_text("wrong answers")

        # What was tried is a prediction like every other: it was recorded.
        page.goto(f"{base}/deployments/late")
        expect(page.locator("#predictions")).to_contain_text("newest 1 recorded")
    assert seen.errors == []
    assert [url for url in seen.requests if not url.startswith((base, "data:"))] == []
