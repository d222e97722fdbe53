"""An honest small node: it polls plans, "loads" what it is told, answers with `active` and reports; it serves nothing."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass, field

import httpx

from quarterdeck.plan import TELL, DeploymentPlan, DeploymentReport, LoadState, NodeReport, Plan, Role, VersionRef, VersionReport


@dataclass
class NodeTwin:
    """One node of the plan API.

    Attributes:
        refuses: digest → code; such a version fails to load.
        slow: digests that stay in state `loading`.
        answering: deployment → digest that answers now.
        history: each digest that ever answered, in order, by deployment.
        asked: whether the deployer has asked what it was told.
    """

    http: httpx.Client
    node: Role
    token: str
    refuses: dict[str, str] = field(default_factory=dict)
    slow: set[str] = field(default_factory=set)
    plan: Plan | None = None
    boot: str = field(default_factory=lambda: uuid.uuid4().hex)
    answering: dict[str, str | None] = field(default_factory=dict)
    history: dict[str, list[str]] = field(default_factory=dict)
    asked: bool = False

    @property
    def sequence(self) -> int:
        """The plan that it has taken over; 0: none."""
        return self.plan.sequence if self.plan else 0

    def step(self, wait: float = 0.0) -> None:
        """Take a newer plan if there is one, then report."""
        answer = self.http.get(f"/plans/{self.node}", params={"after": self.sequence, "wait": wait}, headers=self._headers())
        if answer.status_code == 200:
            self.take(Plan.model_validate_json(answer.content))
        else:
            assert answer.status_code == 204, answer.text
        self.report()

    def take(self, plan: Plan) -> None:
        """Take a plan over; one that is not newer is a fault of whoever sent it."""
        assert plan.sequence > self.sequence, "a plan went back"
        self.plan = plan
        known = {deployment.name for deployment in plan.deployments}
        self.answering = {name: digest for name, digest in self.answering.items() if name in known}
        for deployment in plan.deployments:
            self._serve(deployment)

    def report(self) -> None:
        """Tell what it does."""
        deployments = [self._deployment(one) for one in self.plan.deployments] if self.plan else []
        report = NodeReport(
            node=self.node,
            boot=self.boot,
            role=self.node,
            url="http://127.0.0.1:1",
            sequence=self.sequence,
            ready=True,
            deployments=deployments,
            told=self.plan.told() if self.plan and self.asked else [],
        )
        answer = self.http.post(
            f"/nodes/{self.node}/report",
            content=report.model_dump_json(),
            headers={**self._headers(), "content-type": "application/json"},
        )
        assert answer.status_code == 204, answer.text
        self.asked = TELL in answer.headers

    def run(self, stop: threading.Event) -> None:
        """Step until told to stop; a server that is away is waited for."""
        while not stop.is_set():
            try:
                self.step(wait=0.2)
            except httpx.TransportError:
                stop.wait(0.05)

    def _serve(self, deployment: DeploymentPlan) -> None:
        active = deployment.active
        if active is not None and self._state(active).state != "ready":
            return
        digest = active.digest if active else None
        if digest is not None and digest != self.answering.get(deployment.name):
            self.history.setdefault(deployment.name, []).append(digest)
        self.answering[deployment.name] = digest

    def _deployment(self, plan: DeploymentPlan) -> DeploymentReport:
        answering = self.answering.get(plan.name)
        return DeploymentReport(
            name=plan.name,
            role=plan.role,
            revision=plan.revision,
            generation=plan.generation,
            active=answering,
            versions=[self._state(ref) for ref in plan.resident],
            mirroring=plan.mirror.version.digest if plan.mirror else None,
            probe_age_seconds=0.1 if answering else None,
        )

    def _state(self, ref: VersionRef) -> VersionReport:
        if ref.digest in self.refuses:
            return VersionReport(
                digest=ref.digest,
                version=ref.version,
                accelerator=ref.accelerator,
                state="failed",
                code=self.refuses[ref.digest],
                reason="row 3 gives another answer",
                place="row 3",
            )
        state: LoadState = "loading" if ref.digest in self.slow else "ready"
        return VersionReport(digest=ref.digest, version=ref.version, accelerator=ref.accelerator, state=state)

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}
