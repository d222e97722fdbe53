"""Doing a request once, however often it is sent: its answer is stored under the caller's key with what the request does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import delete
from sqlalchemy.orm import Session

from quarterdeck.errors import Conflict
from quarterdeck.schema import Frozen
from quarterdeck_deployer.audit import Act
from quarterdeck_deployer.database import utc_now
from quarterdeck_deployer.models import StoredAnswer

KEPT = timedelta(hours=24)
"""For so long a key means the request that it first came with; afterwards it is a new one."""

Answer = TypeVar("Answer", bound=Frozen)


class _Nothing(Frozen):
    """The answer of what answers nothing."""


def once(
    session: Session,
    act: Act,
    kind: type[Answer],
    do: Callable[[], Answer],
    stored: Callable[[Answer], Answer] = lambda answer: answer,
) -> Answer:
    """Do it, or give the answer that it got when the same request came before. Without a key it is always done.

    Args:
        session: of the very transaction in which `do` works, with the write lock held.
        act: whose; `act.once` names key and request.
        kind: class of the answer.
        do: changes the database; an error that it raises leaves no trace of the key either.
        stored: the answer as it may be kept, where that is not all of it: secrets are shown once.

    Raises:
        Conflict: ``idempotency-key-reused`` where the key came with another request.
    """
    if act.once is None:
        return do()
    oldest = utc_now() - KEPT
    # Old answers go when a new one comes: no job of its own is needed, and keys that nobody sends again hold no place.
    session.execute(delete(StoredAnswer).where(StoredAnswer.created <= oldest))
    known = session.get(StoredAnswer, (act.who, act.once.key))
    if known is None:
        answer = do()
        session.add(
            StoredAnswer(
                who=act.who,
                key=act.once.key,
                fingerprint=act.once.fingerprint,
                answer=stored(answer).model_dump(mode="json"),
                created=utc_now(),
            )
        )
        return answer
    if known.fingerprint != act.once.fingerprint:
        raise Conflict(
            "This Idempotency-Key was sent before, with another request.",
            code="idempotency-key-reused",
            kind="header",
            name="Idempotency-Key",
            hint="Take a new key for every new request; the same one only to repeat a request whose answer was lost.",
        )
    return kind.model_validate(known.answer)


def done_once(session: Session, act: Act, do: Callable[[], object]) -> None:
    """The same for what answers nothing: the second time it is not done, and not found missing either."""

    def done() -> _Nothing:
        do()
        return _Nothing()

    once(session, act, _Nothing, done)
