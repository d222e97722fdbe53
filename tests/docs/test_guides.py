"""The shape of pages: one title, headings that can be linked to, an index where there is a folder, and no loose ends."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
GUIDES = sorted((DOCS / "guides").glob("*.md"))
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s#]+)")


def relative(page: Path) -> str:
    """How a page is called in a report."""
    return str(page.relative_to(ROOT))


def outside_blocks(page: Path) -> str:
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and words of each heading."""
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.*)$", outside_blocks(page), re.MULTILINE)]


def links(page: Path) -> set[Path]:
    """Pages and files that a page leads to."""
    return {(page.parent / link).resolve() for link in LINK.findall(outside_blocks(page)) if not link.startswith("http")}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_a_page_has_one_title_and_no_gaps_below_it(page: Path) -> None:
    """The first heading is the only one of its level, and no level is jumped over on the way down."""
    levels = [level for level, _ in headings(page)]
    assert levels[:1] == [1]
    assert levels.count(1) == 1
    # Generated tables of models stand on the third level wherever they are.
    steps = 2 if "reference" in page.parts else 1
    assert all(below <= above + steps for above, below in pairwise(levels))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_headings_are_unique(page: Path) -> None:
    """Two equal ones would share an anchor, and a link would lead to the first only."""
    anchors = Counter(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-") for _, words in headings(page))
    assert [anchor for anchor, count in anchors.items() if count > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_headings_say_something_and_end_without_a_stop(page: Path) -> None:
    """Words, not sentences."""
    assert [words for _, words in headings(page) if not re.search(r"\w", words) or words.endswith((".", ":", "!"))] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_blocks_are_closed_and_lines_are_clean(page: Path) -> None:
    """Every fence has its end; no tabs, no blanks at line ends, one line end at the end."""
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
    assert "\t" not in text
    assert "\r" not in text
    assert re.findall(r"[ ]+$", text, re.MULTILINE) == []
    assert text.endswith("\n")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_tables_have_as_many_cells_in_each_row(page: Path) -> None:
    """A missing bar moves every cell after it."""
    for found in re.findall(r"(?:^\|.*\|\n)+", outside_blocks(page), re.MULTILINE):
        rows = [re.sub(r"\\\|", "", line).count("|") for line in found.splitlines()]
        assert len(set(rows)) == 1, found.splitlines()[0]
        assert re.fullmatch(r"\|( ?:?-+:? ?\|)+", found.splitlines()[1])


@pytest.mark.parametrize("folder", ["guides", "concepts", "reference"])
def test_the_readme_is_the_index_of(folder: str) -> None:
    """Each page is one step from where everybody begins."""
    pages = set((DOCS / folder).glob("*.md"))
    assert pages
    assert sorted(pages - links(ROOT / "README.md")) == []


def test_decisions_have_an_index() -> None:
    """Each is linked there by its number, and numbers count up without a gap."""
    assert set(DECISIONS) <= links(DOCS / "decisions" / "README.md")
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_a_guide_says_what_it_takes_and_leads_on(page: Path) -> None:
    """It begins with a paragraph for whoever comes in by the side, and links to at least one other page."""
    text = page.read_text(encoding="utf-8")
    first = text.split("\n\n")[1]
    assert not first.startswith(("#", "```", "-", "|"))
    assert {link for link in links(page) if link.suffix == ".md"} - {page}


@pytest.mark.parametrize("page", GUIDES, ids=relative)
def test_a_guide_is_made_of_commands(page: Path) -> None:
    """Guides lead through a job; concepts explain, without commands."""
    assert "```console" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", sorted((DOCS / "concepts").glob("*.md")), ids=relative)
def test_a_concept_has_no_commands(page: Path) -> None:
    """They belong to guides and to the reference."""
    assert "```console" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_page_has_loose_ends(page: Path) -> None:
    """What is not there is not announced."""
    text = outside_blocks(page)
    assert not re.search(
        r"\b(TODO|FIXME|TBD|XXX|lorem ipsum)\b|coming soon|not yet implemented|under construction", text, re.IGNORECASE
    )


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pictures_have_words(page: Path) -> None:
    """For those who cannot see them."""
    assert all(words.strip() for words in re.findall(r"!\[([^\]]*)\]", outside_blocks(page)))


def test_every_picture_is_shown_somewhere() -> None:
    """Nothing lies in docs/images that no page shows."""
    shown = {(page.parent / path).resolve() for page in PAGES for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())}
    assert sorted(set((DOCS / "images").iterdir()) - shown) == []
