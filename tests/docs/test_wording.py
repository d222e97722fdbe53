"""Prose names only what exists, and calls it by its one name."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from quarterdeck import client
from quarterdeck_cli import joined
from quarterdeck_deployer import metrics as deployer_metrics
from quarterdeck_node import metrics as node_metrics
from quarterdeck_node.app import DOORS
from tests.support import PROGRAMS, ROOT
from tools.reference import cli, errors, http, metrics, settings

PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = [page for page in PROSE if "reference" not in page.parts]
FENCE = re.compile(r"^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")

SYNONYMS = {
    r"champions?\b": "main",
    r"shadow(ed|ing)?[ -](model|version|deployment|traffic|mode)s?\b": "challenger",
    r"(dark|shadow) launch\w*": "challenger",
    r"canar(y|ies)\b": "challenger, or nothing: there is no partial traffic",
    r"candidate (model|version)s?\b": "challenger",
    r"contenders?\b": "challenger",
    r"incumbents?\b": "main",
    r"(blue|green)[/-](blue|green)\b": "main and challenger",
    r"artefacts?\b": "package",
    r"model (artifact|archive|bundle)s?\b": "package",
    r"roll ?out (controller|engine|manager)s?\b": "deployer",
    r"control plane\b": "deployer",
    r"data plane\b": "node",
    r"side-?cars?\b": "agent",
    r"inference (server|service|logs?)s?\b": "node; record",
    r"prediction logs?\b": "record",
    r"ground[- ]truth labelings?\b": "ground truth",
    r"back[- ]?ups? version\b": "previous",
    r"fall-?back (model|version)s?\b": "previous",
    r"golden (set|data ?set|samples?|examples?)\b": "golden rows",
    r"(whitelist|blacklist|master|slave)\w*": "a word that says what is meant",
}
"""Words that mean something which has another name here (docs/concepts/how-it-works.md), and that name."""


def relative(page: Path) -> str:
    """How a page is called in a report."""
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    """What stands in `back ticks` in a page's prose."""
    return SPAN.findall(prose(page))


def blocks(page: Path) -> str:
    """The blocks of code of a page, lines that go on put together."""
    return re.sub(r" \\\n\s+", " ", "\n".join(FENCE.findall(page.read_text(encoding="utf-8"))))


@cache
def commands() -> set[str]:
    """Every command and group, as words."""
    return {" ".join(words) for words in cli.commands()}


@cache
def sources() -> str:
    """All Python of the programs."""
    return "\n".join(path.read_text(encoding="utf-8") for folder in PROGRAMS for path in (ROOT / folder).rglob("*.py"))


def command_of(text: str) -> str:
    """The command's words at the front of what follows `quarterdeck `."""
    words: list[str] = []
    for word in text.split():
        if " ".join([*words, word]) not in commands():
            break
        words.append(word)
    return " ".join(words)


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_pages_use_the_words_of_the_design(page: Path) -> None:
    """One thing, one word."""
    text = prose(page)
    found = [
        f"{match[0]} → {name}" for word, name in SYNONYMS.items() for match in re.finditer(rf"\b{word}", text, re.IGNORECASE)
    ]
    assert found == []


def test_what_users_read_in_programs_uses_the_same_words() -> None:
    """Help, errors and the console too."""
    texts = [path for folder in PROGRAMS for kind in ("*.py", "*.html") for path in (ROOT / folder).rglob(kind)]
    found = [
        f"{relative(path)}: {match[0]}"
        for path in texts
        for word in SYNONYMS
        for match in re.finditer(rf"\b{word}", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert found == []


@pytest.mark.parametrize("page", PROSE, ids=relative)
def test_commands_that_are_named_exist(page: Path) -> None:
    """In sentences and in examples; and so do their options."""
    named = [text.removeprefix("quarterdeck ") for text in spans(page) if text.startswith("quarterdeck ")]
    if "reference" not in page.parts:
        named += re.findall(r"(?:^\$ |[;&|] )quarterdeck ([^|>;&\n]*)", blocks(page), re.MULTILINE)
    for text in named:
        if text.split()[0].isupper():
            continue
        command = command_of(text)
        assert command, f"quarterdeck {text}"
        rest = text.removeprefix(command).split()
        below = {other.removeprefix(f"{command} ").split()[0] for other in commands() if other.startswith(f"{command} ")}
        assert not below or not rest or rest[0] in below or rest[0].startswith("-"), f"quarterdeck {text}"
        options = set(re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", re.sub(r"'[^']*'|\"[^\"]*\"", "", " ".join(rest))))
        known = set(re.findall(r"--?[a-z][a-z-]*", cli._help(command.split())))
        assert options <= known, f"quarterdeck {text}"


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_settings_that_are_named_exist(page: Path) -> None:
    """Variables with our prefix are a program's, the client's or `make`'s."""
    fields = {settings.variable(name) for one in settings.PROGRAMS.values() for name in one.model_fields}
    fields |= {client.URL_VARIABLE, client.TOKEN_VARIABLE, joined.TOKEN_VARIABLE}
    named = set(re.findall(r"QUARTERDECK_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8")))
    assert sorted(named - fields) == []


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_metrics_that_are_named_exist(page: Path) -> None:
    """By their exported names."""
    series = {one.name for module in (node_metrics, deployer_metrics) for one in metrics.series(module)}
    known = series | {"quarterdeck_node", "quarterdeck_deployer", "quarterdeck_cli", "quarterdeck_operator"}
    exported = known | {f"{name}_{part}" for name in series for part in ("bucket", "sum", "count")}
    named = set(re.findall(r"\bquarterdeck_[a-z_]*[a-z]\b", page.read_text(encoding="utf-8")))
    assert sorted(named - exported) == []


@cache
def codes() -> set[str]:
    """Every error code that can be raised."""
    return set(errors.codes())


@cache
def routes() -> list[re.Pattern[str]]:
    """Every path that a program answers, parameters as anything without a slash."""
    paths = [door.path for door in DOORS] + list(http.deployer_openapi()["paths"])
    paths += re.findall(r"@(?:app|router|pages)\.(?:get|post|put|delete)\(\s*\"(/[^\"]*)\"", sources())
    return [re.compile(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))) for path in paths]


@pytest.mark.parametrize("page", PROSE, ids=relative)
def test_routes_that_are_named_exist(page: Path) -> None:
    """`GET /somewhere` in a sentence, and the path of every URL of a local system."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`(?:GET|POST|PUT|DELETE) (/[^\s`?]*)", text)
    named += [path for path in re.findall(r"http://127\.0\.0\.1:840[0-2](/[^\s`'\"<>)?]*)", text) if path != "/"]
    unknown = [path for path in named if not any(route.fullmatch(path) for route in routes())]
    assert unknown == []


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_error_codes_that_are_named_exist(page: Path) -> None:
    """In examples of answers, and in sentences that speak of a code."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r'"code": ?"([a-z-]+)"', text) + re.findall(r"[Cc]ode `([a-z-]+)`", text)
    assert sorted(set(named) - codes()) == []


@pytest.mark.parametrize("page", WRITTEN, ids=relative)
def test_targets_and_files_that_are_named_exist(page: Path) -> None:
    """`make something`, and paths of this checkout."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {match for text in spans(page) for match in re.findall(r"^make ([a-z-]+)", text)} <= targets
    assert set(re.findall(r"^\$ make ([a-z-]+)", blocks(page), re.MULTILINE)) <= targets
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    paths = [text for text in spans(page) if re.fullmatch(rf"({tops})/[\w./-]+", text)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
