"""The pod template of one role: pure data from the spec and the operator's settings, and when it is rendered anew.

A pod is two containers of the same image. `serve` answers; `agent` starts before it, ends after it (so that the last records are
shipped) and alone sees the store's credentials. All files that may be missing or change are optional volumes: the pod starts,
the node names what is missing, and new content needs no restart.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from quarterdeck.placement import Nodes, Store
from quarterdeck.plan import Role
from quarterdeck.resources import Spec
from quarterdeck_operator.names import AUDIENCE, GRPC_PORT, HTTP_PORT, labels, plan_name
from quarterdeck_operator.quantities import quantity
from quarterdeck_operator.settings import Settings
from quarterdeck_operator.world import Object, ResourceKey, Template

FOLDER = "/var/lib/quarterdeck"
PLAN_FOLDER = "/etc/quarterdeck/plan"
TOKEN_FOLDER = "/var/run/quarterdeck/token"
S3_FOLDER = "/etc/quarterdeck/s3"
CA_FOLDER = "/etc/quarterdeck/s3-ca"
SERVE, AGENT = "serve", "agent"
GRACE_SECONDS = 90
"""The longest drain, the time to be seen leaving, the last answers and the shipping of the last records, one after the other."""
DRAIN_SECONDS = 10
READY_PERIOD, READY_FAILURES = 2, 3
LEAVE_SECONDS = READY_PERIOD * READY_FAILURES + 2
"""What the probes need to notice, and the cluster to tell every machine."""
TOKEN_SECONDS = 3_600

_COUNTS = {"replicas", "autoscaling", "challenger_replicas"}
_SERVE_REQUESTS = {"cpu": "100m", "memory": "256Mi"}
_AGENT_REQUESTS = {"cpu": "50m", "memory": "128Mi"}


def render(spec: Spec, role: Role, settings: Settings) -> Template:
    """The pod template as this operator makes it today; it names neither deployment nor plan."""
    pod = {"metadata": {"annotations": {"kubectl.kubernetes.io/default-container": SERVE}}, "spec": _pod(spec, role, settings)}
    return Template(hash=_digest(pod)[:10], inputs=_inputs(spec), pod=pod)


def keep(stored: Template | None, rendered: Template) -> tuple[Template, bool]:
    """The template to use, and whether today's rendering differs from it: a newer operator does not roll anybody's pods."""
    if stored is None or stored.inputs != rendered.inputs:
        return rendered, False
    return stored, stored.hash != rendered.hash


def bind(template: Template, key: ResourceKey, role: Role) -> Object:
    """The template as a Deployment carries it: with labels, and with the plan that its pods ask for."""
    plan = plan_name(key.name, role, template.hash)
    pod = copy.deepcopy(template.pod)
    pod["metadata"]["labels"] = labels(key.name, role, template.hash)
    serve = next(container for container in pod["spec"]["containers"] if container["name"] == SERVE)
    serve["env"].append({"name": "QUARTERDECK_PLAN", "value": plan})
    # Optional: the pod may be faster than the ConfigMap, and a node without a plan waits for one.
    pod["spec"]["volumes"].append({"name": "plan", "configMap": {"name": plan, "optional": True}})
    return pod


def store_of(spec: Spec, settings: Settings) -> Store | None:
    """Where the deployment's packages and records are: its own store whole, or the operator's whole; None: nobody named one.

    The default's credentials never go with an address that a deployment named.
    """
    if spec.store is not None:
        return spec.store
    if not settings.store:
        return None
    return Store(url=settings.store, secret=settings.store_secret or None, ca_config_map=settings.store_ca_config_map or None)


def _inputs(spec: Spec) -> str:
    """Digest of the fields that a person changes in order to get other pods."""
    store = {"secret": spec.store.secret, "ca": spec.store.ca_config_map} if spec.store else None
    return _digest({"nodes": spec.nodes.model_dump(mode="json", exclude=_COUNTS), "store": store})


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _pod(spec: Spec, role: Role, settings: Settings) -> Object:
    nodes, store = spec.nodes, store_of(spec, settings)
    pod: Object = {
        # A native one: started first, ended last, restarted on its own.
        "initContainers": [_agent(nodes, store, settings)],
        "containers": [_serve(nodes, role, settings)],
        "volumes": _volumes(store),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        # Variables made of Services' names would be read as settings: a Service `quarterdeck` makes a QUARTERDECK_PORT.
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    placed = {
        "nodeSelector": dict(nodes.node_selector),
        "tolerations": [one.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in nodes.tolerations],
        "imagePullSecrets": [{"name": name} for name in nodes.image_pull_secrets],
        "serviceAccountName": nodes.service_account,
    }
    return {**pod, **{field: value for field, value in placed.items() if value}}


def _serve(nodes: Nodes, role: Role, settings: Settings) -> Object:
    # Mirrored rows come over HTTP, so a challenger has no use for the other door.
    grpc = nodes.grpc and role == "main"
    own: list[Object] = [
        {"name": "QUARTERDECK_NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        _variable("ROLE", role),
        _variable("HOST", "0.0.0.0"),
        _variable("PORT", str(HTTP_PORT)),
        _variable("FOLDER", FOLDER),
        _variable("PLAN_SERVER", settings.plan_server_url),
        _variable("PLAN_FOLDER", PLAN_FOLDER),
        _variable("NODE_TOKEN_FILE", f"{TOKEN_FOLDER}/token"),
        _variable("DRAIN_SECONDS", str(DRAIN_SECONDS)),
        _variable("LEAVE_SECONDS", str(LEAVE_SECONDS)),
        *([_variable("GRPC_PORT", str(GRPC_PORT))] if grpc else []),
    ]
    ports = [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    return {
        **_container(SERVE, ["python", "-m", "quarterdeck_node"], nodes, settings),
        "env": _environment(nodes, own),
        "ports": [*ports, *([{"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"}] if grpc else [])],
        "resources": _resources(nodes),
        # Starting may take long (imports, a cold disk) and must be seen at once; only after it is an unanswered /live a fault.
        "startupProbe": _probe("/live", period=1, timeout=2, failures=180),
        "livenessProbe": _probe("/live", period=10, timeout=5, failures=3),
        "readinessProbe": _probe("/ready", period=READY_PERIOD, timeout=5, failures=READY_FAILURES),
        "volumeMounts": [
            _mount("folder", FOLDER, writable=True),
            _mount("tmp", "/tmp", writable=True),
            _mount("plan", PLAN_FOLDER),
            _mount("token", TOKEN_FOLDER),
        ],
    }


def _agent(nodes: Nodes, store: Store | None, settings: Settings) -> Object:
    secret, ca = (store.secret, store.ca_config_map) if store else (None, None)
    own = [
        _variable("FOLDER", FOLDER),
        *([_variable("S3_FOLDER", S3_FOLDER)] if secret else []),
        *([_variable("S3_CA", f"{CA_FOLDER}/ca.crt")] if ca else []),
    ]
    return {
        **_container(AGENT, ["python", "-m", "quarterdeck_node.agent"], nodes, settings),
        "restartPolicy": "Always",
        # Packages are tried here before they serve, with the same variables.
        "env": _environment(nodes, own),
        "resources": _agent_resources(nodes),
        "volumeMounts": [
            _mount("folder", FOLDER, writable=True),
            _mount("tmp", "/tmp", writable=True),
            *([_mount("s3", S3_FOLDER)] if secret else []),
            *([_mount("s3-ca", CA_FOLDER)] if ca else []),
        ],
    }


def _container(name: str, command: list[str], nodes: Nodes, settings: Settings) -> Object:
    return {
        "name": name,
        "image": nodes.image or settings.node_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": command,
        # The last words of a program that ends are the only ones that the operator may read.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _volumes(store: Store | None) -> list[Object]:
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    volumes: list[Object] = [
        {"name": "folder", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
    ]
    if store and store.secret:
        volumes.append({"name": "s3", "secret": {"secretName": store.secret, "optional": True}})
    if store and store.ca_config_map:
        volumes.append({"name": "s3-ca", "configMap": {"name": store.ca_config_map, "optional": True}})
    return volumes


def _environment(nodes: Nodes, own: list[Object]) -> list[Object]:
    """The user's variables, sorted, then ours: a name that is there twice would be refused by the API server."""
    ours = {variable["name"] for variable in own} | {"QUARTERDECK_PLAN"}
    theirs: list[Object] = [{"name": name, "value": value} for name, value in sorted(nodes.env.items()) if name not in ours]
    return theirs + own


def _variable(name: str, value: str) -> Object:
    return {"name": f"QUARTERDECK_{name}", "value": value}


def _mount(volume: str, path: str, *, writable: bool = False) -> Object:
    return {"name": volume, "mountPath": path, **({} if writable else {"readOnly": True})}


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": HTTP_PORT},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _resources(nodes: Nodes) -> Object:
    """What the spec says; a processor share and memory are always asked for, lest nodes be placed where there is no room."""
    limits = dict(nodes.resources.limits)
    # Where there is a limit, Kubernetes takes it as the request too.
    wanting = {name: amount for name, amount in _SERVE_REQUESTS.items() if name not in limits}
    requests = {**wanting, **nodes.resources.requests}
    return {field: value for field, value in (("requests", requests), ("limits", limits)) if value}


def _agent_resources(nodes: Nodes) -> Object:
    """Little is asked for. The limits are serve's, for a package that is tried takes what one that serves takes."""
    limits = {name: amount for name, amount in nodes.resources.limits.items() if name in _AGENT_REQUESTS}
    # A request above its limit is refused; without one it is the limit.
    requests = {name: amount for name, amount in _AGENT_REQUESTS.items() if name not in limits or _within(amount, limits[name])}
    return {field: value for field, value in (("requests", requests), ("limits", limits)) if value}


def _within(amount: str, limit: str | int) -> bool:
    one, other = quantity(amount), quantity(limit)
    return one is not None and other is not None and one <= other
