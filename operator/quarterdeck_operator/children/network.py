"""NetworkPolicies: callers reach main from anywhere; a challenger hears its own deployment's main pods and nobody else.

Ways out are left open: store, plan server and DNS are at addresses that only the cluster's owner knows.
"""

from __future__ import annotations

from quarterdeck.plan import Role
from quarterdeck_operator.names import GRPC_PORT, HTTP_PORT, Owner, labels, metadata, role_name, selector
from quarterdeck_operator.world import Object


def network_policy(owner: Owner, role: Role) -> Object:
    """Who may reach one role's pods."""
    name = owner.key.name
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(owner, role_name(name, role), labels(name, role)),
        "spec": {
            "podSelector": {"matchLabels": selector(name, role)},
            "policyTypes": ["Ingress"],
            "ingress": [_from_anywhere() if role == "main" else _from_main(name)],
        },
    }


def _from_anywhere() -> Object:
    return {"ports": [{"port": port, "protocol": "TCP"} for port in (HTTP_PORT, GRPC_PORT)]}


def _from_main(name: str) -> Object:
    # Without a namespace selector: pods of the same namespace only.
    sender = {"podSelector": {"matchLabels": selector(name, "main")}}
    return {"from": [sender], "ports": [{"port": HTTP_PORT, "protocol": "TCP"}]}
