"""The pages on one version and on one run: where it comes from, what people say of it, what needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request
from pydantic import ValidationError
from starlette.responses import HTMLResponse, RedirectResponse

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.console.forms import Why, problems
from quarterdeck_deployer.console.pages import Shell, SurePage, deployed_in
from quarterdeck_deployer.console.rendering import render
from quarterdeck_deployer.registry_views import Lineage, MarksInput, RunDetail, Use, VersionDetail

router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
_VERSION = "/models/{model}/versions/{version}"


@dataclass(frozen=True)
class VersionPage:
    """One version: is it what I think?"""

    shell: Shell
    version: VersionDetail
    lineage: Lineage
    uses: list[Use]
    deployed_in: list[tuple[str, str]]
    active: int | None


@dataclass(frozen=True)
class RunPage:
    """One run: which of its candidates? `metrics` and `parameters` are the names that any of them has."""

    shell: Shell
    model: str
    run: RunDetail
    metrics: list[str]
    parameters: list[str]


@router.get(_VERSION)
def version(model: Name, version: Number, deployer: TheDeployer) -> HTMLResponse:
    """One version: digest, metrics, proof, lineage, environment, notes and labels, and what it is needed for."""
    found = deployer.registry.version(model, version)
    wishes = [one.wish for one in deployer.deployments.living()]
    page = VersionPage(
        shell=Shell(
            f"{model} v{version}", "models", f"quarterdeck model version {model} {version}", f"/api{_path(model, version)}"
        ),
        version=found,
        lineage=deployer.registry.lineage(model, version),
        uses=deployer.registry.uses(model, version),
        deployed_in=deployed_in(found.digest, wishes),
        active=deployer.registry.active(model),
    )
    return render("version.html", page)


@router.get("/models/{model}/run")
def run(model: Name, deployer: TheDeployer, name: Annotated[str, Query(max_length=200)]) -> HTMLResponse:
    """One run with its candidates: their metrics and hyperparameters side by side."""
    found = deployer.registry.run(model, name)
    # Names of runs may hold anything, a slash too: they are no part of a path here.
    shell = Shell(name, "models", f"quarterdeck model runs {model}", f"/api/models/{model}/runs")
    metrics = sorted({key for one in found.candidates for key in one.metrics})
    parameters = sorted({key for one in found.candidates for key in one.hyperparameters})
    return render("run.html", RunPage(shell, model, found, metrics, parameters))


@router.post(_VERSION + "/marks")
def mark(
    request: Request,
    model: Name,
    version: Number,
    deployer: TheDeployer,
    notes: Annotated[str, Form(max_length=20_000)] = "",
    labels: Annotated[str, Form(max_length=30_000)] = "",
    why: Why = "",
) -> RedirectResponse:
    """Write the notes of a version, and the labels that it shall have: one `key=value` a line."""
    now = deployer.registry.version(model, version).labels
    wanted = dict(_label(line) for line in labels.splitlines() if line.strip())
    # What stands in the form no more shall be no more.
    merged = {**dict.fromkeys(now), **wanted}
    try:
        given = MarksInput.model_validate({"notes": notes.replace("\r\n", "\n"), "labels": merged})
    except ValidationError as error:
        first = problems(error)[0]
        raise InvalidInput(
            f"{first.field}: {first.words}.",
            kind="label",
            hint="Keys are small letters, digits and ._/-; go back to correct them.",
        ) from None
    deployer.registry.mark(model, version, given, request.state.caller.act(why))
    return RedirectResponse(_path(model, version), status_code=303)


@router.get(_VERSION + "/deprecate")
def deprecating(model: Name, version: Number, deployer: TheDeployer) -> HTMLResponse:
    """What deprecating a version will do, or taking that back."""
    found = deployer.registry.version(model, version)
    back = found.deprecated is not None
    verb = "undeprecate" if back else "deprecate"
    page = SurePage(
        Shell(
            f"{verb.capitalize()} {model} v{version}",
            "models",
            f"quarterdeck model {verb} {model} {version}",
            f"/api{_path(model, version)}",
        ),
        back=(_path(model, version), f"{model} v{version}"),
        action=f"{_path(model, version)}/deprecate",
        button=f"{verb.capitalize()} {model} v{version}",
        sentences=[
            "Whoever deploys it is warned no more." if back else "Whoever deploys it again is warned with your reason.",
            "What serves goes on.",
        ],
        grave=False,
        fields={"deprecated": "false" if back else "true"},
    )
    return render("sure.html", page)


@router.post(_VERSION + "/deprecate")
def deprecate(
    request: Request, model: Name, version: Number, deployer: TheDeployer, deprecated: Annotated[bool, Form()], why: Why = ""
) -> RedirectResponse:
    """Deprecate a version, or take that back; where it is so already, nothing happens."""
    deployer.registry.mark(model, version, MarksInput(deprecated=deprecated), request.state.caller.act(why))
    return RedirectResponse(_path(model, version), status_code=303)


@router.get(_VERSION + "/delete")
def deleting(model: Name, version: Number, deployer: TheDeployer) -> HTMLResponse:
    """What deleting a version will do."""
    deployer.registry.version(model, version)
    page = SurePage(
        Shell(
            f"Delete {model} v{version}", "models", f"quarterdeck model delete {model} {version}", f"/api{_path(model, version)}"
        ),
        back=(_path(model, version), f"{model} v{version}"),
        action=f"{_path(model, version)}/delete",
        button=f"Delete {model} v{version}",
        sentences=[
            "Its files are taken from the store for good, but for those that other versions share.",
            "Its manifest stays, and its number is never given again.",
            "It is refused while anything serves it, pins it or needs it for a rollback.",
        ],
    )
    return render("sure.html", page)


@router.post(_VERSION + "/delete")
def delete(request: Request, model: Name, version: Number, deployer: TheDeployer, why: Why = "") -> RedirectResponse:
    """Delete the files of a version that nobody needs."""
    deployer.registry.delete(model, version, request.state.caller.act(why))
    return RedirectResponse(_path(model, version), status_code=303)


def _path(model: str, version: int) -> str:
    return f"/models/{model}/versions/{version}"


def _label(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), value.strip()
