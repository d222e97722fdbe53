"""Takes docs/images/console.png from a running system: `python -m tools.console_picture [FOLDER] [DEPLOYMENT]`."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import expect

from quarterdeck.client import HOME, TOKEN, connect
from tests.browser.chromium import chromium, watched
from tests.support import ROOT

PICTURE = ROOT / "docs" / "images" / "console.png"
WIDTH, HEIGHT = 1280, 1400


def take(folder: Path, name: str, picture: Path) -> None:
    """One deployment's page, from its top, in the light scheme.

    Args:
        folder: where `quarterdeck up` runs.
        name: of the deployment; empty: the first there is.
        picture: file to write.
    """
    with connect(folder) as client, chromium() as browser:
        name = name or client.deployments()[0]["name"]
        page, _ = watched(browser, width=WIDTH)
        page.goto(f"{client.url}/login?token={(folder / HOME / TOKEN).read_text().strip()}")
        page.goto(f"{client.url}/deployments/{name}")
        # A system that has just been started takes some seconds until it runs.
        expect(page.locator("#status .states .good")).to_have_count(2, timeout=60_000)
        page.reload()
        page.screenshot(path=picture, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
        print(f"{picture.relative_to(ROOT)}: deployment {name}, {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    given = [*sys.argv[1:], "", ""]
    take(Path(given[0] or ROOT / ".demo"), given[1], PICTURE)
