"""Projects, people and their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quarterdeck.client.calls import Calls, Json, as_object, part


class Access(Calls):
    """`/api/projects`, `/api/people`, `/api/token` and `/api/issuer`."""

    def projects(self) -> list[Json]:
        """All projects, by name."""
        return self.every("/api/projects")

    def project(self, name: str) -> Json:
        """One project."""
        return as_object(self.call("GET", f"/api/projects/{part(name)}"))

    def create_project(self, name: str, description: str = "", why: str = "") -> Json:
        """Create a project with nobody in it."""
        return as_object(self.call("POST", "/api/projects", {"name": name, "description": description, "why": why}))

    def delete_project(self, name: str) -> None:
        """Delete a project that nothing is in."""
        self.call("DELETE", f"/api/projects/{part(name)}")

    def people(self) -> list[Json]:
        """All people, by id."""
        return self.every("/api/people")

    def person(self, ident: str) -> Json:
        """One person."""
        return as_object(self.call("GET", f"/api/people/{part(ident)}"))

    def create_person(self, body: Mapping[str, Any]) -> Json:
        """Let somebody in: name, email, role and projects."""
        return as_object(self.call("POST", "/api/people", dict(body)))

    def change_person(self, ident: str, body: Mapping[str, Any]) -> Json:
        """Change somebody's name, role or projects."""
        return as_object(self.call("PATCH", f"/api/people/{part(ident)}", dict(body)))

    def delete_person(self, ident: str) -> None:
        """Take somebody away; their sessions end with this."""
        self.call("DELETE", f"/api/people/{part(ident)}")

    def end_sessions(self, ident: str) -> Json:
        """End all sessions of somebody, in every browser."""
        return as_object(self.call("DELETE", f"/api/people/{part(ident)}/sessions"))

    def create_token(self, minutes: int = 60, person: str | None = None) -> Json:
        """A short-lived token: for the API, and for the deployments that its bearer may ask.

        Args:
            minutes: how long it is good, at most a day.
            person: id of the person whose token it is; the caller where None. Admins only.
        """
        return as_object(self.call("POST", "/api/token", {"minutes": minutes, "person": person}))

    def token_keys(self) -> list[Json]:
        """The public keys that tokens are checked by, the newest first."""
        return list(self.call("GET", "/.well-known/jwks.json")["keys"])

    def rotate_token_keys(self) -> Json:
        """Sign tokens with a new key from now on; those of the key before are good until they expire."""
        return as_object(self.call("POST", "/api/issuer/rotate"))
