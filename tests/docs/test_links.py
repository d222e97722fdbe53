"""Links between pages lead somewhere, and so do the pages that error messages send people to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import PROGRAMS, ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "operator").glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made on code hosting sites."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that are named behind `#`."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    dead = []
    for link in LINK.findall(text):
        if not link.startswith(("http:", "https:")):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(link)
    assert dead == []


def test_pages_named_in_the_code_exist() -> None:
    """A hint that sends somebody to docs/ sends them to a page."""
    named = {
        (str(path.relative_to(ROOT)), page)
        for folder in PROGRAMS
        for path in (ROOT / folder).rglob("*.py")
        for page in re.findall(r"docs/[\w/-]+\.md", path.read_text())
    }
    assert sorted((path, page) for path, page in named if not (ROOT / page).is_file()) == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """A page that nothing links to is read by nobody."""
    found: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in found and page.suffix == ".md" and page.is_file():
            found.add(page)
            links = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if not link.startswith("http")]
            waiting += [(page.parent / link).resolve() for link in links if link]
    assert sorted(set((ROOT / "docs").rglob("*.md")) - found) == []
