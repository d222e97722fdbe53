"""The settings of sign-in by a provider of identities."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from quarterdeck.settings import ProgramSettings
from quarterdeck_deployer.access import ROLES, Role

_HERE = ("127.0.0.1", "localhost", "::1")


class SignInSettings(ProgramSettings):
    """Without an issuer, the admin token is the only way in."""

    oidc_issuer: str = Field("", description="Issuer of the OpenID Connect provider, as it writes itself; empty: none.")
    oidc_client_id: str = Field("", validate_default=True, description="What the provider knows this instance as.")
    oidc_client_secret_file: Path | None = Field(
        None, description="File with the client's secret, read anew at each sign-in; none for a public client."
    )
    oidc_ca: Path | None = Field(None, description="PEM file of the provider's authority, where the system does not know it.")
    oidc_scopes: str = Field("", description="Scopes beside `openid email profile`, e.g. `groups`; with spaces between.")
    oidc_role_claim: str = Field("groups", description="Claim of the ID token that roles follow from; `a.b` for a nested one.")
    oidc_roles: str = Field(
        "",
        description="What values of that claim give: `ml-admins=admin,ml=developer`. The highest counts; where none is given, "
        "the person's own role does.",
    )

    @field_validator("oidc_issuer")
    @classmethod
    def _https(cls, value: str) -> str:
        url = urlsplit(value)
        # What comes from there says who somebody is: nobody on the way may change it.
        if value and not (url.scheme == "https" or (url.scheme == "http" and url.hostname in _HERE)):
            raise ValueError("it is an https:// address, or http:// of this host")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _client(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) != bool(info.data.get("oidc_issuer")):
            raise ValueError("it goes together with an issuer")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _known_roles(cls, value: str) -> str:
        if any(not name or role not in ROLES for name, role in _pairs(value)):
            raise ValueError(f"it is VALUE=ROLE with commas between; roles are {', '.join(ROLES)}")
        return value

    @property
    def roles_by_claim(self) -> dict[str, Role]:
        """What each value of the role claim gives."""
        return {name: cast(Role, role) for name, role in _pairs(self.oidc_roles)}


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return [(name.strip(), role.strip()) for name, _, role in (part.rpartition("=") for part in parts)]
