"""What was typed into a form and what is wrong with it, so that a page can show both again; and tickets against double clicks."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Form, Request
from pydantic import ValidationError

from quarterdeck.errors import QuarterdeckError

_TICKETS = 1_000
Why = Annotated[str, Form(max_length=2_000)]


@dataclass(frozen=True)
class Sent:
    """A form as it came: what stands in its fields, and everything that was chosen where several may be."""

    typed: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, list[str]] = field(default_factory=dict)

    def given(self, *names: str) -> dict[str, str]:
        """Fields that are not empty, of these names."""
        return {name: text for name in names if (text := self.typed.get(name, "").strip())}


NOTHING = Sent()


async def sent(request: Request) -> Sent:
    """The form of a request; files in it are left out."""
    form = await request.form()
    many = {name: [value for value in form.getlist(name) if isinstance(value, str)] for name in form}
    return Sent({name: values[0] for name, values in many.items() if values}, many)


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field; without a field it is the whole form's."""

    field: str
    words: str

    @property
    def label(self) -> str:
        """What people call the field: names of features stand behind a dot."""
        return self.field.rpartition(".")[2].replace("_", " ")


def problems(error: ValidationError | QuarterdeckError) -> list[Problem]:
    """What is wrong, without anything that was typed."""
    if isinstance(error, QuarterdeckError):
        return [Problem("", f"{error.detail} {error.hint}".strip())]
    found = error.errors(include_url=False, include_input=False)
    return [Problem(str(one["loc"][0]) if one["loc"] else "", one["msg"]) for one in found]


class Tickets:
    """Each form that makes something new carries a ticket that is good for one time: a double click makes one thing."""

    def __init__(self) -> None:
        self._used: dict[str, None] = {}
        self._lock = threading.Lock()

    def new(self) -> str:
        """A ticket that nobody has."""
        return secrets.token_urlsafe(16)

    def use(self, ticket: str) -> bool:
        """Whether this is the ticket's first use."""
        with self._lock:
            if ticket in self._used:
                return False
            self._used[ticket] = None
            # Old tickets may be forgotten: their pages were left long ago.
            while len(self._used) > _TICKETS:
                del self._used[next(iter(self._used))]
            return True


def _tickets(request: Request) -> Tickets:
    # On the application, not in the module: two applications in one process share no tickets.
    state = request.app.state
    if not hasattr(state, "console_tickets"):
        state.console_tickets = Tickets()
    tickets: Tickets = state.console_tickets
    return tickets


TheTickets = Annotated[Tickets, Depends(_tickets)]
