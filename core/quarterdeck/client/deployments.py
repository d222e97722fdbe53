"""Deployments: wishes and actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from quarterdeck.client.answers import exchange
from quarterdeck.client.calls import Json, as_object, part
from quarterdeck.client.models import Models
from quarterdeck.errors import NotFound
from quarterdeck.resources import ModelDeployment

_WISH = {"project", "stage", "service", "description", "access", "records", "running", "rollback", "progress_seconds"}
"""Fields of a resource that mean the same to a deployer without a cluster."""


class Done(TypedDict):
    """What an action answers.

    `revision` is the newest one and `changed` whether this action made it; `applied` tells whether the nodes were seen to do
    what it says, and `note` why nothing changed or what is still waited for. `action` is what made that revision, and `state`
    how far it is.
    """

    deployment: str
    action: str
    state: str
    revision: int
    changed: bool
    applied: bool
    note: str
    warnings: NotRequired[list[str]]


class Deployments(Models):
    """`/api/deployments`."""

    def deployments(self, project: str = "", stage: str = "", service: str = "", model: str = "") -> list[Json]:
        """All deployments, or those of a project, a stage, a service or with a main version of a model: wish and observed."""
        wanted: Json = {"project": project, "stage": stage, "service": service, "model": model}
        return self.every("/api/deployments", None, **{name: value or None for name, value in wanted.items()})

    def deployment(self, name: str) -> Json:
        """One deployment: wish, observed state with its age, conditions, versions with digests, the mirror's ledger, URLs."""
        return as_object(self.call("GET", f"/api/deployments/{part(name)}"))

    def apply(self, resource: ModelDeployment, why: str = "", wait: float | None = None) -> Done:
        """Make a deployment what the resource says. Nothing changes where it is so already.

        Args:
            resource: the whole wish.
            why: reason for the audit log.
            wait: seconds to wait until the nodes are seen to follow; None: do not wait.

        Raises:
            NotFound: no version has the digest that the resource names.
        """
        return self.put_deployment(resource.metadata.name, self.wish(resource, why), wait)

    def wish(self, resource: ModelDeployment, why: str = "") -> Json:
        """The API's form of a resource, with the digest of main resolved to its version."""
        spec = resource.spec
        # A pin is the main version for as long as it is there; where and on how many nodes it runs is a cluster's business.
        main = {"model": spec.model.name, "version": self._number(resource), "trust": spec.model.trust}
        main["accelerator"] = spec.model.accelerator
        body = spec.model_dump(mode="json", include=_WISH, exclude_none=True)
        if spec.challenger:
            body["challenger"] = {**spec.challenger.model_dump(mode="json"), "model": spec.challenger.model or spec.model.name}
        # A pin says itself why it is there.
        return {**body, "main": main, "why": why or (spec.pin.reason if spec.pin else "")}

    def _number(self, resource: ModelDeployment) -> int:
        main = resource.spec.model
        if resource.spec.pin:
            main = main.model_copy(update={"version": resource.spec.pin.version, "digest": resource.spec.pin.digest})
        if main.digest is None and main.version is not None:
            return main.version
        for each in self.model(main.name)["items"]:
            if each["digest"] == main.digest and main.version in (None, each["version"]):
                return int(each["version"])
        raise NotFound(
            f"{main.name} has no version {main.version or ''} with the digest that {resource.metadata.name} names.".replace(
                "  ", " "
            ),
            kind="version",
            name=main.name,
            hint=f"See `quarterdeck model show {main.name}`.",
        )

    def export(self, name: str = "", stage: str = "") -> str:
        """The YAML of what runs: of one deployment, of those of a stage, or of all; `apply` takes it back without a change."""
        query = {key: value for key, value in (("name", name), ("stage", stage)) if value}
        return exchange(self._api, "GET", f"{self.url}/api/export", None, query, {}, self._timeout).text

    def put_deployment(self, name: str, body: Mapping[str, Any], wait: float | None = None) -> Done:
        """Create or change a deployment by the API's own document."""
        return done(self.call("PUT", f"/api/deployments/{part(name)}", dict(body), wait=wait))

    def delete(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Delete a deployment. Its history, versions and records stay."""
        return done(self.call("DELETE", f"/api/deployments/{part(name)}", why=why or None, wait=wait))

    def set_challenger(
        self, name: str, version: int, model: str | None = None, why: str = "", wait: float | None = None, *, trust: str = "data"
    ) -> Done:
        """Send copies of the traffic to a version; of main's model where none is named."""
        body = {"version": version, "trust": trust, "why": why, **({"model": model} if model else {})}
        return self._act(name, "challenger", body, wait)

    def clear_challenger(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Stop mirroring."""
        return done(self.call("DELETE", f"/api/deployments/{part(name)}/challenger", why=why or None, wait=wait))

    def swap(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Main and challenger change places."""
        return self._act(name, "swap", {"why": why}, wait)

    def rollback(
        self, name: str, revision: int | None = None, leaving: str | None = None, why: str = "", wait: float | None = None
    ) -> Done:
        """Restore main and challenger of an earlier revision.

        Args:
            name: the deployment.
            revision: which one; None: the one before.
            leaving: digest of the version that is to be left; where another one answers by now, nothing is changed.
            why: reason for the audit log.
            wait: seconds to wait until the nodes are seen to follow; None: do not wait.
        """
        body = {"revision": revision, "leaving": leaving, "why": why}
        return self._act(name, "rollback", {key: value for key, value in body.items() if value is not None}, wait)

    def start(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Let a deployment answer requests."""
        return self._act(name, "run", {"why": why}, wait)

    def stop(self, name: str, why: str = "", wait: float | None = None) -> Done:
        """Let a deployment answer nothing; its versions stay where they are."""
        return self._act(name, "stop", {"why": why}, wait)

    def _act(self, name: str, verb: str, body: Json, wait: float | None) -> Done:
        return done(self.call("POST", f"/api/deployments/{part(name)}/{verb}", body, wait=wait))

    def revisions(self, name: str) -> list[Json]:
        """The revisions of a deployment, newest first."""
        return self.every(f"/api/deployments/{part(name)}/revisions")


def done(found: Any) -> Done:
    """What an action answers."""
    answered: Done = found
    return answered
