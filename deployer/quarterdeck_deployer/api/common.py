"""What routes share: the deployer, the act with its author, waiting, and the answer to an action."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.access import Caller
from quarterdeck_deployer.actions import State
from quarterdeck_deployer.audit import Act, Once
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.revisions import Changed

MAX_WAIT_SECONDS = 600.0
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait until nodes do what was asked.")]


class ActionAnswer(Frozen):
    """What became of an action. `applied` False is no failure: the reconcile loop goes on with it."""

    deployment: Name
    action: str = Field(description="The action that made the newest revision.", examples=["late-flights-4"])
    state: State = Field(description="How far it is: `accepted` until it ends.")
    revision: int = Field(description="The newest revision.", examples=[4])
    changed: bool = Field(description="Whether this action made it; False where everything was so already.")
    applied: bool = Field(description="Whether nodes were seen to do it within the wait.")
    note: str = Field("", description="Why nothing changed, or what it still waits for.")
    warnings: list[str] = Field(default_factory=list, description="What whoever did it should know, in sentences.")


def _deployer(request: Request) -> Deployer:
    found: Deployer = request.app.state.deployer
    return found


TheDeployer = Annotated[Deployer, Depends(_deployer)]


class Author:
    """Who sent a request, what they believe the newest revision to be, and under which key they may send it again."""

    def __init__(self, caller: Caller, expected: int | None, once: Once | None) -> None:
        self._caller, self._expected, self._once = caller, expected, once

    def act(self, why: str = "") -> Act:
        """The author's act, for a reason."""
        caller = self._caller
        return Act(who=caller.name, why=why, expected=self._expected, once=self._once, projects=caller.projects)


_Key = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="A new random text for each new request. The same request with the same key is done once within 24 h, "
        "and answered again.",
    ),
]
_Revision = Annotated[
    str | None,
    Header(description='The newest revision as the caller knows it, e.g. "4"; another one is a conflict.'),
]


async def _author(request: Request, idempotency_key: _Key = None) -> Author:
    # Who asks to be refused where something has changed must not be told that it was done without a look.
    if _revision(request.headers.get("if-match")) is not None:
        raise InvalidInput(
            "If-Match is for what has revisions, and that are deployments only.",
            kind="header",
            name="If-Match",
            hint="Leave it out here.",
        )
    return await _authored(request, None, idempotency_key)


async def _reviser(request: Request, if_match: _Revision = None, idempotency_key: _Key = None) -> Author:
    return await _authored(request, if_match, idempotency_key)


async def _authored(request: Request, if_match: str | None, key: str | None) -> Author:
    once = Once(key, await _fingerprint(request, if_match)) if key else None
    return Author(request.state.caller, _revision(if_match), once)


async def _fingerprint(request: Request, if_match: str | None) -> str:
    """Everything that a request does; how long the caller waits for the answer is no part of that."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "wait"]
    told = json.dumps([request.method, request.url.path, sorted(query), if_match])
    return hashlib.sha256(told.encode() + b"\n" + await request.body()).hexdigest()


TheAuthor = Annotated[Author, Depends(_author)]
TheReviser = Annotated[Author, Depends(_reviser)]
"""The author of a change of something that has revisions, who may name the newest one that they have seen."""


async def answer(deployer: Deployer, changed: Changed, wait: float) -> ActionAnswer:
    """Wait as long as the caller likes, then tell how far it is."""
    # The action is committed by now: giving up waiting changes nothing about it.
    outcome = await deployer.applied(changed.deployment, changed.revision, wait)
    if outcome.applied:
        # What has been seen here need not wait for the loop's next look: whoever reads the action now finds its end.
        await run_in_threadpool(deployer.settler.settle)
    action = await run_in_threadpool(deployer.actions.one, changed.action)
    return ActionAnswer(
        deployment=changed.deployment,
        action=action.id,
        state=action.state,
        revision=changed.revision,
        changed=changed.changed,
        applied=outcome.applied,
        note=changed.note or outcome.reason,
        warnings=changed.warnings,
    )


def _revision(if_match: str | None) -> int | None:
    if if_match is None or if_match == "*":
        return None
    try:
        return int(if_match.strip('"'))
    except ValueError:
        raise InvalidInput(
            "If-Match takes the number of a revision.",
            kind="header",
            name="If-Match",
            hint='Send the revision that you have seen, e.g. If-Match: "4".',
        ) from None
