"""docs/reference/errors.md: every stable code that the source can raise, found by reading it."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator

from quarterdeck import errors
from tests.support import PROGRAMS, ROOT
from tools.reference.tables import first_line, table

CODE = re.compile(r"[a-z]+(-[a-z]+)*")
INTRO = """\
# Errors

Every refusal over HTTP is a problem document (`application/problem+json`, RFC 9457) with these members:

| member | meaning |
|---|---|
| `type` | `urn:quarterdeck:` and the code |
| `title` | the code in words |
| `status` | the HTTP status |
| `detail` | one sentence: what is wrong with which thing |
| `code` | stable; programs read this |
| `hint` | the next step, where there is one |
| `kind`, `name` | what sort of thing it is about, and which |

Some carry more, such as `row` and `column`. None carries a value from the request, a secret or a path of the server.
On the command line the same words go to standard error.

"""


def page() -> str:
    """The page."""
    rows = [[f"`{code}`", *known] for code, known in sorted(codes().items())]
    classes = [
        [f"`{each.__name__}`", str(each.status), f"`{each.default_code}`", first_line(each)]
        for each in _tree(errors.QuarterdeckError)
    ]
    return (
        INTRO
        + "## Classes\n\nIn Python they are classes of `quarterdeck.errors`.\n\n"
        + table(["class", "status", "code unless said otherwise", "meaning"], classes)
        + "\n## Codes\n\n"
        + table(["code", "class", "status"], rows)
    )


def _tree(top: type[errors.QuarterdeckError]) -> Iterator[type[errors.QuarterdeckError]]:
    if top.__module__ == errors.__name__:
        yield top
        for below in top.__subclasses__():
            yield from _tree(below)


def codes() -> dict[str, tuple[str, str]]:
    """Code → the classes that carry it and their statuses."""
    found: dict[str, set[str]] = defaultdict(set)
    statuses = {each.__name__: str(each.status) for each in _tree(errors.QuarterdeckError)}
    for each in _tree(errors.QuarterdeckError):
        found[each.default_code].add(each.__name__)
        for code in re.findall(r"``([a-z-]+)``", (each.__doc__ or "").partition("Codes:")[2]):
            found[code].add(each.__name__)
    bases: dict[str, str] = {}
    for folder in PROGRAMS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            helpers = dict(_helpers(tree))
            for node in ast.walk(tree):
                for code, name in [*_mentioned(node, bases), *_handed_on(node, helpers)]:
                    found[code].add(name)
    resolved = {code: sorted({_known(name, bases, statuses) for name in names} - {""}) for code, names in found.items()}
    return {
        code: (", ".join(f"`{name}`" for name in names), ", ".join(sorted({statuses[name] for name in names})))
        for code, names in resolved.items()
        if names
    }


def _mentioned(node: ast.AST, bases: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Codes given by keyword in a call, and default codes of classes, each with the name of the class."""
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        for keyword in node.keywords:
            if keyword.arg == "code":
                yield from ((code, name) for code in _strings(keyword.value))
    if isinstance(node, ast.ClassDef) and node.bases:
        bases[node.name] = ast.unparse(node.bases[0]).rpartition(".")[2]
        for line in node.body:
            if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
                targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                if any(ast.unparse(target) == "default_code" for target in targets):
                    yield from ((code, node.name) for code in _strings(line.value))


def _helpers(tree: ast.Module) -> Iterator[tuple[str, tuple[int, str]]]:
    """Functions that make an error from a `code` they are given: name → place of that parameter, class of the error."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and "code" in (names := [each.arg for each in function.args.args]):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and any(ast.unparse(keyword) == "code=code" for keyword in node.keywords):
                    yield function.name, (names.index("code"), ast.unparse(node.func).rpartition(".")[2])


def _handed_on(node: ast.AST, helpers: dict[str, tuple[int, str]]) -> Iterator[tuple[str, str]]:
    """Codes that are given to such a function."""
    if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in helpers:
        place, error = helpers[name]
        given = [*node.args[place : place + 1], *(each.value for each in node.keywords if each.arg == "code")]
        yield from ((code, error) for value in given for code in _strings(value))


def _strings(node: ast.expr) -> list[str]:
    """The strings that an expression can be, as far as they look like codes."""
    if isinstance(node, ast.IfExp):
        return _strings(node.body) + _strings(node.orelse)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
        return [node.value]
    return []


def _known(name: str, bases: dict[str, str], statuses: dict[str, str]) -> str:
    """The class of `quarterdeck.errors` that `name` is or comes from; empty where it is none."""
    while name not in statuses:
        if name not in bases:
            return ""
        name = bases[name]
    return name
