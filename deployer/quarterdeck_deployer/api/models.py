"""/api/models: the registry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi import Path as InPath
from pydantic import Field

from quarterdeck.compare import Comparison
from quarterdeck.errors import InvalidInput
from quarterdeck.manifest import Manifest
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.registry_views import (
    Activated,
    Deleted,
    Lineage,
    Marks,
    MarksInput,
    ModelDetail,
    ModelView,
    Reason,
    RunDetail,
    RunView,
    Use,
    VersionDetail,
    VersionInput,
    VersionView,
)

router = APIRouter(prefix="/api/models", tags=["models"], responses=ERRORS)
_RUN = {"name": "2026-11-21 lightgbm", "metrics": {"brier": 0.13}, "parameters": {"learning_rate": 0.05}}
_MANIFEST = {
    "model": "late-flights",
    "form": "compiled",
    "schema": {
        "task": "binary",
        "target": "late",
        "classes": ["no", "yes"],
        "positive": "yes",
        "features": [{"name": "dep_hour", "type": "float"}],
    },
    "golden": [{"row": {"dep_hour": 18.5}, "expected": {"prediction": "yes", "scores": [0.3, 0.7]}}],
    "environment": {"python": "3.11.7"},
    "files": [{"path": "model.txt", "size": 5120, "sha256": 64 * "0"}],
}
_EXAMPLE = {"version": 2, "digest": "sha256:" + 64 * "0", "run": _RUN}
_MARKS = {"notes": "Trained without the strike weeks.", "labels": {"team": "ops", "old-key": None}, "why": "for the audit"}
_OCTETS = {"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
Number = Annotated[int, InPath(ge=1, le=2**31 - 1, description="Number of the version.")]
WithLabels = Annotated[
    list[Annotated[str, Field(max_length=300)]] | None,
    Query(max_length=20, description="`key=value` or `key`; only those that have all of these.", examples=[["team=ops"]]),
]


class ActiveInput(Frozen):
    """Which version becomes the active one."""

    version: Annotated[int, Field(ge=1, le=2**31 - 1)]
    why: Reason = ""


class Blob(Frozen):
    """A file of a package that lies in the store."""

    sha256: str
    received: bool = Field(description="False where the store had it already.")


@router.get("")
def models(deployer: TheDeployer, page: ThePage, label: WithLabels = None) -> list[ModelView]:
    """Models, by name."""
    return page.answer(deployer.registry.models(page.window, label))


@router.get("/{model}")
def model(model: Name, deployer: TheDeployer) -> ModelDetail:
    """One model with its versions and runs."""
    return deployer.registry.model(model)


@router.patch("/{model}")
def mark_model(
    model: Name, body: Annotated[MarksInput, Body(examples=[_MARKS])], author: TheAuthor, deployer: TheDeployer
) -> Marks:
    """Write notes and labels of a model."""
    return deployer.registry.mark(model, None, body, author.act(body.why))


@router.put("/{model}/active")
def activate(
    model: Name,
    body: Annotated[ActiveInput, Body(examples=[{"version": 2, "why": "best Brier score"}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> Activated:
    """Make a version the one that batches and evaluations use unless told otherwise; the answer names the one before."""
    return deployer.registry.activate(model, body.version, author.act(body.why))


@router.get("/{model}/runs")
def runs(model: Name, deployer: TheDeployer, page: ThePage) -> list[RunView]:
    """The training runs of a model by name, each with the versions that came of it."""
    return page.answer(deployer.registry.runs(model, page.window))


@router.get("/{model}/runs/{run}")
def run(model: Name, run: str, deployer: TheDeployer) -> RunDetail:
    """One run with its candidates: metrics and hyperparameters side by side."""
    return deployer.registry.run(model, run)


@router.get("/{model}/compare")
def compare(
    model: Name,
    deployer: TheDeployer,
    a: Annotated[int, Query(ge=1, le=2**31 - 1, description="Number of a version.", examples=[1])],
    b: Annotated[int, Query(ge=1, le=2**31 - 1, description="Number of the other one.", examples=[2])],
) -> Comparison:
    """What differs from version `a` to version `b`: schema, hyperparameters, metrics, environment, files, golden rows."""
    return deployer.registry.compare(model, a, b)


@router.get("/{model}/versions")
def versions(
    model: Name,
    deployer: TheDeployer,
    page: ThePage,
    label: WithLabels = None,
    deprecated: Annotated[bool | None, Query(description="Only those that are, or are not.")] = None,
) -> list[VersionView]:
    """The versions of a model, newest first."""
    return page.answer(deployer.registry.versions(model, page.window, label, deprecated))


@router.post("/{model}/versions", status_code=201)
def register(
    model: Name,
    body: Annotated[VersionInput, Body(examples=[_EXAMPLE])],
    response: Response,
    author: TheAuthor,
    deployer: TheDeployer,
) -> VersionView:
    """Register a package that lies in the store; 200 where it had been registered before."""
    registered = deployer.registry.register(model, body, author.act())
    # Programs repeat requests after a lost answer; the second time is a success as well.
    response.status_code = 201 if registered.created else 200
    return registered.version


@router.put("/{model}/blobs/{sha256}", openapi_extra=_OCTETS)
async def blob(
    model: Name,
    sha256: Annotated[str, InPath(pattern=r"^[0-9a-f]{64}$", description="Of the file's bytes.")],
    request: Request,
    deployer: TheDeployer,
    content_length: Annotated[int | None, Header(ge=0, include_in_schema=False)] = None,
) -> Blob:
    """Send one file of a package; its digest is checked while it is written. What the store has already is not read."""
    received = await deployer.uploads.receive(sha256, content_length, request.stream())
    return Blob(sha256=sha256, received=received)


@router.post("/{model}/packages", status_code=201)
def publish(
    model: Name,
    body: Annotated[Manifest, Body(examples=[_MANIFEST])],
    response: Response,
    author: TheAuthor,
    deployer: TheDeployer,
    version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Number that it must get; the next free one where left out.")
    ] = None,
) -> VersionView:
    """Publish a package by its manifest, once its files were sent; 200 where it had been published before.

    Files that the store does not have yet are named in the refusal (`files-missing`): send those, then this again.
    """
    try:
        body.canonical()
    except ValueError:
        raise InvalidInput("A manifest holds finite numbers only.", kind="package", name=model) from None
    registered = deployer.uploads.publish(model, body, version, author.act())
    response.status_code = 201 if registered.created else 200
    return registered.version


@router.get("/{model}/versions/{version}")
def version(model: Name, version: Number, deployer: TheDeployer) -> VersionDetail:
    """One version with its manifest, golden rows included; a deleted one too."""
    return deployer.registry.version(model, version)


@router.patch("/{model}/versions/{version}")
def mark_version(
    model: Name,
    version: Number,
    body: Annotated[MarksInput, Body(examples=[{**_MARKS, "deprecated": True}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> Marks:
    """Write notes and labels of a version, or deprecate it: whoever deploys it again is warned."""
    return deployer.registry.mark(model, version, body, author.act(body.why))


@router.delete("/{model}/versions/{version}")
def delete(
    model: Name, version: Number, author: TheAuthor, deployer: TheDeployer, why: Annotated[Reason, Query()] = ""
) -> Deleted:
    """Delete the files of a version that nothing serves, pins or needs for a rollback. Its number is never given again."""
    return deployer.registry.delete(model, version, author.act(why))


@router.get("/{model}/versions/{version}/uses")
def uses(model: Name, version: Number, deployer: TheDeployer) -> list[Use]:
    """What a version is still needed for; only one without uses can be deleted."""
    return deployer.registry.uses(model, version)


@router.get("/{model}/versions/{version}/lineage")
def lineage(model: Name, version: Number, deployer: TheDeployer) -> Lineage:
    """Where a version comes from and what was made from it: data, recipe, code, environment, parents, children."""
    return deployer.registry.lineage(model, version)
