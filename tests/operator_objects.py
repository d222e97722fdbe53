"""Small parts of a cluster for tests of the operator's pure builders: specs, pods, records, what is observed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quarterdeck.plan import DeploymentReport, LoadState, NodeReport, Role, VersionRef, VersionReport
from quarterdeck.resources import Spec
from quarterdeck.rollout import Decision, Record
from quarterdeck_operator.names import Owner, labels
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import ClusterRecord, Object, ObjectKey, Observed, ResourceKey

KEY = ResourceKey("shop", "late-flights")
OWNER = Owner(KEY, "uid-1")
NOW = 1_800_000_000.0
SEED = b"s" * 32
SETTINGS = Settings(node_image="registry.example/node:1", store="s3://packages/all", store_secret="s3-keys")


def spec(nodes: Mapping[str, Any] | None = None, **more: Any) -> Spec:
    """A spec of version 1 of `m`; `nodes` and further fields as in YAML."""
    return Spec.model_validate({"model": {"name": "m", "version": 1}, "nodes": dict(nodes or {}), **more})


def ref(version: int) -> VersionRef:
    """A version whose digest shows its number."""
    return VersionRef(model="m", version=version, digest="sha256:" + f"{version:064x}")


def decision(active: VersionRef | None = None, **more: Any) -> Decision:
    """A decision that answers with `active`; record and conditions are empty unless given."""
    record = more.pop("record", Record(active=active, revision=1 if active else 0))
    resident = [active] if active else []
    base = {"record": record, "active": active, "resident": resident, "challenger": None, "mirror": None, "conditions": []}
    return Decision.model_validate({**base, **more})


def pod(name: str, template: str, role: Role = "main", *, ready: bool = True, **status: Any) -> Object:
    """A pod of a template; further fields go into its status."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": labels(KEY.name, role, template)},
        "status": {"phase": "Running", "conditions": conditions, **status},
    }


def report(node: str, role: Role = "main", active: VersionRef | None = None, **states: LoadState) -> NodeReport:
    """A node's report; states are given as v1="ready", v2="failed"."""
    versions = [
        VersionReport(
            digest=ref(int(name[1:])).digest,
            version=int(name[1:]),
            state=state,
            code="golden-mismatch" if state == "failed" else "",
            reason="Row 3 differs." if state == "failed" else "",
            place="golden.json" if state == "failed" else "",
        )
        for name, state in states.items()
    ]
    one = DeploymentReport(name=KEY.name, role=role, active=active.digest if active else None, versions=versions)
    return NodeReport(node=node, boot="b", role=role, url="http://n", sequence=1, ready=True, deployments=[one])


def observed(
    owned: Sequence[Object] = (), pods: Sequence[Object] = (), reports: Sequence[NodeReport] = (), **more: Any
) -> Observed:
    """One look at the world."""
    things = {ObjectKey(one["kind"], one["metadata"]["name"]): one for one in owned}
    more = {"record": ClusterRecord(), "record_version": "", "now": NOW, **more}
    return Observed(key=KEY, resource=None, owned=things, pods=pods, reports=reports, **more)
