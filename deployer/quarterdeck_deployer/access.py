"""Who may do what at the deployer: the roles, the caller of a request, and one row for every route. Deny by default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from quarterdeck.errors import Forbidden
from quarterdeck_deployer.audit import Act

Role = Literal["viewer", "developer", "approver", "admin"]
Access = Literal["public", "node", "viewer", "developer", "approver", "admin"]
Kind = Literal["nobody", "node", "token", "session", "jwt"]
ROLES: tuple[Role, ...] = ("viewer", "developer", "approver", "admin")
"""Each may do everything that those before it may."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What requests to some paths need; no methods: whatever the method."""

    access: Access
    methods: frozenset[str] | None
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        name: as history and audit trail show it; empty for nobody.
        role: None for nobody and for nodes.
        kind: the credential that came with the request.
        projects: whose deployments the caller may change; None: those of all projects.
        person: id of the person; empty where the instance's own token was sent.
    """

    name: str
    role: Role | None
    kind: Kind
    projects: frozenset[str] | None = frozenset()
    person: str = ""

    def may(self, access: Access) -> bool:
        """Whether the caller's role reaches that far."""
        if access == "public":
            return True
        if access == "node" or self.role is None:
            return access == "node" and self.kind == "node"
        return ROLES.index(self.role) >= ROLES.index(access)

    def changes(self, project: str) -> bool:
        """Whether the caller is in a project, so that deployments of it are theirs to change."""
        return self.projects is None or project in self.projects

    def act(self, why: str = "") -> Act:
        """What the caller does, for a reason."""
        return Act(who=self.name, why=why, projects=self.projects)


NOBODY = Caller("", None, "nobody")


def _row(access: Access, methods: str, pattern: str) -> Rule:
    return Rule(access, frozenset(methods.split()) if methods != "any" else None, re.compile(pattern))


_READ, _WRITE = "GET HEAD OPTIONS", "POST PUT PATCH DELETE"
RULES: tuple[Rule, ...] = (
    _row("public", "any", r"/(health|metrics|login|logout|docs|openapi\.json)"),
    _row("public", _READ, r"/login/.*|/static/.*|/\.well-known/jwks\.json"),
    # Guarded by the join token that it carries.
    _row("public", "POST", r"/nodes/join"),
    _row("node", _READ, r"/plans/.*"),
    _row("node", "POST", r"/nodes/[^/]+/report"),
    # Names and addresses of people are nobody's business but the admins'.
    _row("admin", "any", r"/(api/)?people(/.*)?"),
    _row("admin", _WRITE, r"/api/(keys|projects|infrastructures|stages|nodes|issuer)(/.*)?"),
    _row("approver", "POST", r"/(api/)?promotions/[^/]+/(approve|reject)"),
    _row("viewer", "POST", r"/api/token|/account/token"),
    _row("viewer", _READ, r"/api/.*"),
    _row("developer", _WRITE, r"/api/(models|runs|deployments|promotions|test-queries)(/.*)?"),
    _row(
        "viewer",
        _READ,
        r"/|/(deployments|models|promotions|stages|infrastructures|keys|projects|actions|audit|account)(/.*)?",
    ),
    _row("developer", "POST", r"/(deployments|models)/.*"),
    _row("admin", "POST", r"/(keys|projects|infrastructures|stages)(/.*)?"),
)
"""Which credential each request needs: the first row that fits counts. A test fails where a route fits none."""


def access_of(method: str, path: str) -> Access | None:
    """What a request needs; None where no row names it, which the edge takes for `admin`."""
    fitting = (rule for rule in RULES if (rule.methods is None or method in rule.methods) and rule.pattern.fullmatch(path))
    return next((rule.access for rule in fitting), None)


def require(caller: Caller, access: Access) -> None:
    """Refuse a caller who is known and may not do this.

    Raises:
        Forbidden: ``role-missing``; the hint names the role that it takes.
    """
    if not caller.may(access):
        raise Forbidden(
            f"This needs the role {access}, and yours is {caller.role or 'none'}.",
            code="role-missing",
            kind="role",
            name=access,
            hint="Ask an admin of this instance: `quarterdeck people change`.",
        )
