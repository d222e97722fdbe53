"""GET /api/instance: what this instance is and where its parts are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from fastapi import APIRouter
from pydantic import Field

from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.api.common import TheDeployer
from quarterdeck_deployer.api.problems import ERRORS

router = APIRouter(prefix="/api/instance", tags=["instance"], responses=ERRORS)


class InstanceView(Frozen):
    """Name, version and addresses."""

    name: Name
    version: str = Field(examples=["0.1.0"])
    store: str = Field(description="The store of packages and records.", examples=["s3://models/quarterdeck"])
    main_url: str = Field(examples=["http://127.0.0.1:8401"])
    challenger_url: str = Field(examples=["http://127.0.0.1:8402"])
    console_url: str = Field(examples=["http://127.0.0.1:8400/"])


@router.get("")
def instance(deployer: TheDeployer) -> InstanceView:
    """What this instance is and where its parts are."""
    settings = deployer.settings
    return InstanceView(
        name=settings.name,
        version=program_version(),
        store=settings.store_url,
        main_url=settings.main_url,
        challenger_url=settings.challenger_url,
        console_url=f"{settings.url}/",
    )


def program_version() -> str:
    """The installed version; ``0+checkout`` where the program runs from its sources without being installed."""
    try:
        return version("quarterdeck")
    except PackageNotFoundError:
        return "0+checkout"
