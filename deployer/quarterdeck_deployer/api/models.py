"""/api/models: the registry."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import Field

from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.registry import ModelDetail, ModelView, VersionDetail, VersionInput, VersionView

router = APIRouter(prefix="/api/models", tags=["models"], responses=ERRORS)
_EXAMPLE = {"version": 2, "digest": "sha256:" + 64 * "0", "run": {"name": "2026-11-21 lightgbm", "metrics": {"brier": 0.13}}}


class ActiveInput(Frozen):
    """Which version becomes the active one."""

    version: Annotated[int, Field(ge=1)]
    why: Annotated[str, Field(max_length=2_000)] = ""


@router.get("")
def models(deployer: TheDeployer) -> list[ModelView]:
    """All models, by name."""
    return deployer.registry.models()


@router.get("/{model}")
def model(model: Name, deployer: TheDeployer) -> ModelDetail:
    """One model with its versions and runs."""
    return deployer.registry.model(model)


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


@router.put("/{model}/active")
def activate(
    model: Name,
    body: Annotated[ActiveInput, Body(examples=[{"version": 2, "why": "best Brier score"}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> ModelView:
    """Make a version the one that batches and evaluations use unless told otherwise."""
    return deployer.registry.activate(model, body.version, author.act(body.why))


@router.get("/{model}/versions/{version}")
def version(model: Name, version: int, deployer: TheDeployer) -> VersionDetail:
    """One version with its manifest, golden rows included."""
    return deployer.registry.version(model, version)
