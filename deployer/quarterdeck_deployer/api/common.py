"""What routes share: the deployer, the act with its author, waiting, and the answer to an action."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Query, Request
from pydantic import Field

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen, Name
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.deployer import Deployer
from quarterdeck_deployer.revisions import Changed

MAX_WAIT_SECONDS = 600.0
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait until nodes do what was asked.")]


class ActionAnswer(Frozen):
    """What became of an action. `applied` False is no failure: the reconcile loop goes on with it."""

    deployment: Name
    revision: int = Field(description="The newest revision.", examples=[4])
    changed: bool = Field(description="Whether this action made it; False where everything was so already.")
    applied: bool = Field(description="Whether nodes were seen to do it within the wait.")
    note: str = Field("", description="Why nothing changed, or what it still waits for.")


def _deployer(request: Request) -> Deployer:
    found: Deployer = request.app.state.deployer
    return found


TheDeployer = Annotated[Deployer, Depends(_deployer)]


class Author:
    """Who sent a request, and what they believe the newest revision to be."""

    def __init__(
        self,
        request: Request,
        if_match: Annotated[
            str | None, Header(description='The newest revision as the caller knows it, e.g. "4"; another one is a conflict.')
        ] = None,
    ) -> None:
        self._who: str = request.state.who
        self._expected = _revision(if_match)

    def act(self, why: str = "") -> Act:
        """The author's act, for a reason."""
        return Act(who=self._who, why=why, expected=self._expected)


TheAuthor = Annotated[Author, Depends()]


async def answer(deployer: Deployer, changed: Changed, wait: float) -> ActionAnswer:
    """Wait as long as the caller likes, then tell how far it is."""
    # The action is committed by now: giving up waiting changes nothing about it.
    outcome = await deployer.applied(changed.deployment, changed.revision, wait)
    return ActionAnswer(
        deployment=changed.deployment,
        revision=changed.revision,
        changed=changed.changed,
        applied=outcome.applied,
        note=changed.note or outcome.reason,
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
