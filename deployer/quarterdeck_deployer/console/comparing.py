"""Two versions of a model side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import HTMLResponse

from quarterdeck.compare import Comparison, Difference
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.pages import Shell
from quarterdeck_deployer.console.rendering import render

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
Number = Annotated[int, Query(ge=1, le=2**31 - 1, description="Number of a version.")]
_SECTIONS = ("metrics", "package", "features", "hyperparameters", "environment", "files", "golden")


@dataclass(frozen=True)
class Line:
    """One member that differs, in words."""

    name: str
    a: str
    b: str
    change: str


@dataclass(frozen=True)
class ComparePage:
    """What differs between two versions; `sections` are (title, lines, members that both have alike)."""

    shell: Shell
    model: str
    a: int
    b: int
    sections: list[tuple[str, list[Line], int | None]]


@router.get("/models/{model}/compare")
def compare(model: Name, a: Number, b: Number, deployer: TheDeployer) -> HTMLResponse:
    """What differs from one version to another one."""
    shell = Shell(
        f"{model} v{a} and v{b}",
        "models",
        f"quarterdeck model compare {model} {a} {b}",
        f"/api/models/{model}/compare?a={a}&b={b}",
    )
    sections = _sections(deployer.registry.compare(model, a, b))
    return render("compare.html", ComparePage(shell, model, a, b, sections))


def _sections(found: Comparison) -> list[tuple[str, list[Line], int | None]]:
    return [(name, [_line(one) for one in getattr(found, name)], found.same.get(name)) for name in _SECTIONS]


def _line(one: Difference) -> Line:
    return Line(one.name, _words(one.a), _words(one.b), "" if one.change is None else f"{one.change:+.6g}")


def _words(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.6g}"
    # Answers and features are objects: what counts of them.
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(member)}" for key, member in value.items() if member not in (None, False, []))
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
