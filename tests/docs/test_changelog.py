"""The changelog follows Keep a Changelog, so that people and programs can read it."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise

from tests.support import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
RELEASE = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
VERSION = re.compile(r"\d+\.\d+\.\d+")


def releases() -> list[tuple[str, str | None, str]]:
    """Name, date and text of each release, newest first."""
    found = list(RELEASE.finditer(TEXT))
    ends = [one.start() for one in found[1:]] + [len(TEXT)]
    return [(one["name"], one["date"], TEXT[one.end() : end]) for one, end in zip(found, ends, strict=True)]


def test_the_head_says_what_it_follows() -> None:
    """One title, and the two conventions by name."""
    assert TEXT.startswith("# Changelog\n")
    head = TEXT.partition("\n## ")[0]
    assert "keepachangelog.com" in head
    assert "semver.org" in head
    assert TEXT.count("\n# ") == 0


def test_every_heading_of_a_release_has_the_form() -> None:
    """`## [Unreleased]` or `## [1.2.3] - 2026-11-21`, each once."""
    assert len(re.findall(r"^## ", TEXT, re.MULTILINE)) == len(releases())
    names = [name for name, _, _ in releases()]
    assert len(set(names)) == len(names)
    for name, date, _ in releases():
        assert (name == "Unreleased" and date is None) or (VERSION.fullmatch(name) and date is not None), name


def test_unreleased_comes_first_and_the_newest_next() -> None:
    """What is not out yet stands above; versions and dates fall from there."""
    names = [name for name, _, _ in releases()]
    assert names[0] == "Unreleased"
    versions = [[int(part) for part in name.split(".")] for name in names[1:]]
    assert all(newer > older for newer, older in pairwise(versions))
    dates = [date for _, date, _ in releases() if date]
    assert dates == sorted(dates, reverse=True)


def test_a_release_that_is_out_is_not_newer_than_the_program() -> None:
    """The number in pyproject.toml is the newest one that is spoken of, or one that is not out yet."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert VERSION.fullmatch(version)
    now = [int(part) for part in version.split(".")]
    assert all([int(part) for part in name.split(".")] <= now for name, _, _ in releases()[1:])


def test_changes_stand_under_their_kind() -> None:
    """The six kinds, in their order, none twice and none empty; no bullet stands outside of one."""
    for name, _, text in releases():
        parts = re.split(r"^### (.*)$", text, flags=re.MULTILINE)
        kinds = parts[1::2]
        assert kinds == [kind for kind in KINDS if kind in kinds], name
        assert "- " not in parts[0]
        assert all(re.search(r"^- \S", body, re.MULTILINE) for body in parts[2::2]), name


def test_changes_are_whole_sentences() -> None:
    """Each begins with a capital and ends with a full stop, for it is written for people."""
    for _, _, text in releases():
        bullets = re.findall(r"^- ((?:.*\n)(?:  .*\n?)*)", text, re.MULTILINE)
        assert bullets
        for bullet in bullets:
            words = " ".join(bullet.split()).strip("*`")
            assert words[0].isupper(), words
            assert words.endswith("."), words


def test_nothing_of_the_workshop_is_told() -> None:
    """People read what they can do, not how it came about."""
    assert not re.search(r"\b(TODO|WIP|refactor\w*|commit [0-9a-f]{7}|merge[ds]?)\b", TEXT, re.IGNORECASE)
