"""Tokens of people: /api/token makes one, /.well-known/jwks.json has the public keys, /api/issuer/rotate exchanges them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from quarterdeck.errors import Forbidden, NotFound
from quarterdeck.plan import TokenIssuer
from quarterdeck.schema import Frozen
from quarterdeck_deployer import audit
from quarterdeck_deployer.access import Caller
from quarterdeck_deployer.api.common import TheAuthor, TheDeployer
from quarterdeck_deployer.api.problems import ERRORS
from quarterdeck_deployer.audit import Act, Change
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.idempotency import once
from quarterdeck_deployer.issuing import NewToken, TokenInput

router = APIRouter(tags=["access"], responses=ERRORS)


class KeySetView(Frozen):
    """Public keys as a JWK Set."""

    keys: list[dict[str, Any]]


@router.post("/api/token", status_code=201)
def token(
    body: Annotated[TokenInput, Body(examples=[{"minutes": 60}])], request: Request, author: TheAuthor, deployer: TheDeployer
) -> NewToken:
    """A short-lived token of the caller: for the API here, and for the deployments that the caller may ask."""
    return issued(deployer, request.state.caller, body, author.act())


@router.post("/api/issuer/rotate")
def rotate(author: TheAuthor, deployer: TheDeployer) -> TokenIssuer:
    """Sign with a new key from now on; tokens of the one before are good until they expire, those of older ones end now."""
    act = author.act()

    def do() -> TokenIssuer:
        found = deployer.issuer.rotate(session)
        audit.write(session, act, Change("rotate", "issuer/keys", None, {"kid": found.keys[0].get("kid", "")}))
        return found

    # Rotated twice, because an answer was lost, everybody's tokens would end at once.
    with deployer.writing.begin() as session:
        found = once(session, act, TokenIssuer, do)
    # Nodes learn the new key with their next plan, before anybody can have a token of it that is older than a second.
    deployer.wake()
    return found


@router.get("/.well-known/jwks.json")
def keys(deployer: TheDeployer) -> KeySetView:
    """The public keys that tokens of this instance's people are checked by."""
    return KeySetView(keys=[dict(key) for key in deployer.issuer.public().keys])


def issued(deployer: Deployer, caller: Caller, wanted: TokenInput, act: Act) -> NewToken:
    """A token for the caller, or, where an admin names somebody, for that person.

    Raises:
        Forbidden: ``sign-in-needed`` where a token asks for a token, ``role-missing`` where somebody asks for another person.
        NotFound: no such person.
    """
    # Otherwise a token that was stolen would live for ever, one hour at a time.
    if caller.kind == "jwt":
        raise Forbidden("A token makes no further token.", code="sign-in-needed", kind="token", hint="Sign in to the console.")
    bearer = caller
    if wanted.person is not None and wanted.person != caller.person:
        if not caller.may("admin"):
            raise Forbidden("Only admins make tokens for others.", code="role-missing", kind="role", name="admin")
        found = deployer.people.caller(wanted.person, "jwt")
        if found is None:
            hint = "List them: `quarterdeck people list`."
            raise NotFound("There is no such person.", kind="person", name=wanted.person, hint=hint)
        bearer = found

    def do() -> NewToken:
        made = deployer.issuer.issue(bearer, wanted.minutes)
        told = {"subject": made.subject, "expires": made.expires.isoformat()}
        audit.write(session, act, Change("issue", f"token/{made.subject}", None, told))
        return made

    with deployer.writing.begin() as session:
        return once(session, act, NewToken, do, lambda made: made.model_copy(update={"token": ""}))
