"""Services: main under the deployment's own name, the challenger beside it for main's pods only."""

from __future__ import annotations

from quarterdeck.plan import Role
from quarterdeck_operator.names import GRPC_PORT, HTTP_PORT, Owner, labels, metadata, selector, service_name
from quarterdeck_operator.world import Object

SERVICE_PORT = 80


def service(owner: Owner, role: Role, *, grpc: bool) -> Object:
    """One role's Service: port 80, and 8081 where the gRPC door is open."""
    name = owner.key.name
    # Numbers, not names of ports: a pod of an older template may not know the name.
    ports: list[Object] = [{"name": "http", "port": SERVICE_PORT, "targetPort": HTTP_PORT, "protocol": "TCP"}]
    if grpc:
        ports.append({"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "protocol": "TCP"})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(owner, service_name(name, role), labels(name, role)),
        "spec": {"type": "ClusterIP", "selector": selector(name, role), "ports": ports},
    }
