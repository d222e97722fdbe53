"""/api/keys: API keys. The answer to POST is the only one that ever carries a secret."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query

from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.paging import ThePage
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.keys import KeyInput, KeyView, NewKey, RotateInput

router = APIRouter(prefix="/api/keys", tags=["keys"], responses=ERRORS)


@router.get("")
def keys(
    deployer: TheDeployer, page: ThePage, project: Annotated[str, Query(description="Only keys of this project.")] = ""
) -> list[KeyView]:
    """All keys without their secrets, by id."""
    return page.answer(deployer.keys.listed(page.window, project))


@router.post("", status_code=201)
def create(
    body: Annotated[KeyInput, Body(examples=[{"name": "booking service", "project": "default", "scopes": ["predict"]}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> NewKey:
    """Create a key; its secret is in this answer and nowhere else."""
    return deployer.keys.create(body, author.act(body.why))


@router.post("/{key}/rotate", status_code=201)
def rotate(
    key: str,
    body: Annotated[RotateInput, Body(examples=[{"overlap_hours": 24}])],
    author: TheAuthor,
    deployer: TheDeployer,
) -> NewKey:
    """Create a key in place of this one, which opens what it did until the overlap is over."""
    return deployer.keys.rotate(key, body, author.act(body.why))


@router.delete("/{key}")
def revoke(key: str, author: TheAuthor, deployer: TheDeployer) -> KeyView:
    """Take a key back; nodes refuse it as soon as they have the next plan."""
    return deployer.keys.revoke(key, author.act())
