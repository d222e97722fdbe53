"""The settings that an infrastructure of each kind takes, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Camel
from quarterdeck_deployer.infrastructures.base import Kind
from quarterdeck_deployer.infrastructures.kubernetes_settings import read_settings


class StaticSettings(Camel):
    """How the deployer opens the store of joined nodes; the nodes themselves have credentials of their host's own."""

    s3_folder: str = Field(
        "", description="Folder on the deployer's host with `access-key-id`, `secret-access-key` and maybe `session-token`."
    )
    s3_ca: str = Field("", description="PEM file on the deployer's host: the authority of the S3 server.")


def checked(kind: Kind, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of an infrastructure as they are kept: only what was given, each of the right form.

    Raises:
        InvalidInput: naming the setting; never its value.
    """
    settings = read_settings(given, name) if kind == "kubernetes" else _static(given)
    kept: dict[str, Any] = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for path in ("s3Folder", "s3Ca", "kubeconfig"):
        # The deployer opens it from whatever folder it runs in.
        if kept.get(path) and not Path(kept[path]).is_absolute():
            raise _refused(path, "It must begin with `/`", "Give the whole path on the deployer's host.")
    return kept


def _static(given: dict[str, Any]) -> StaticSettings:
    try:
        return StaticSettings.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise _refused(name, first["msg"], "A static infrastructure takes: s3Folder, s3Ca.") from None


def _refused(name: str, why: str, hint: str) -> InvalidInput:
    return InvalidInput(f"The setting {name} cannot be used: {why}.", kind="setting", name=name, hint=hint)
