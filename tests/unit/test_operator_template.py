"""The pod template: what it holds, that Pod Security `restricted` takes it, and when it is rendered anew."""

from __future__ import annotations

from typing import Any

import pytest

from quarterdeck.plan import Role
from quarterdeck_operator.names import plan_name
from quarterdeck_operator.template import bind, keep, render, store_of
from quarterdeck_operator.world import Object, Template
from tests.operator_objects import KEY, SETTINGS, spec

VOLUMES_ALLOWED = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
FULL: dict[str, Any] = {
    "image": "registry.example/own:2",
    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": 1}},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "imagePullSecrets": ["registry"],
    "serviceAccount": "models",
    "grpc": True,
    "env": {"QUARTERDECK_MAX_ROWS": "10", "REGION": "north"},
}


def rendered(role: Role = "main", nodes: dict[str, Any] | None = None, **more: Any) -> Object:
    """Spec of a pod as a Deployment carries it."""
    found: Object = bind(render(spec(nodes, **more), role, SETTINGS), KEY, role)["spec"]
    return found


def container(pod: Object, name: str) -> Object:
    """One container by its name."""
    return next(one for one in [*pod["initContainers"], *pod["containers"]] if one["name"] == name)


def variables(pod: Object, name: str) -> dict[str, str]:
    """Variables of one container; those that come from fields by the field's path."""
    found = container(pod, name)["env"]
    return {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in found}


def unrestricted(pod: Object) -> list[str]:
    """What Pod Security `restricted` (v1.36) would refuse of a pod's spec; written from the standard, not from our code."""
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    found += [one["name"] for one in pod["volumes"] if not set(one) - {"name"} <= VOLUMES_ALLOWED]
    whole = pod.get("securityContext", {})
    if whole.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("seccompProfile")
    if whole.get("runAsNonRoot") is not True:
        found.append("runAsNonRoot")
    if whole.get("runAsUser") == 0 or whole.get("sysctls"):
        found.append("securityContext")
    for one in [*pod["initContainers"], *pod["containers"]]:
        its = one.get("securityContext", {})
        refused = [
            its.get("allowPrivilegeEscalation") is not False,
            its.get("privileged", False),
            "ALL" not in its.get("capabilities", {}).get("drop", ()),
            bool(set(its.get("capabilities", {}).get("add", ())) - {"NET_BIND_SERVICE"}),
            its.get("runAsUser") == 0 or its.get("runAsNonRoot") is False,
            any("hostPort" in port for port in one.get("ports", ())),
            its.get("procMount", "Default") != "Default",
        ]
        found += [f"{one['name']}: rule {number}" for number, bad in enumerate(refused) if bad]
    return found


@pytest.mark.parametrize("role", ["main", "challenger"])
@pytest.mark.parametrize("nodes", [{}, FULL], ids=["least", "most"])
def test_pod_security_restricted_takes_it(role: Role, nodes: dict[str, Any]) -> None:
    """Namespaces that enforce it take our pods, whatever the spec says."""
    pod = rendered(role, nodes, store={"url": "s3://a/b", "secret": "s", "caConfigMap": "c"})
    assert unrestricted(pod) == []
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in [*pod["initContainers"], *pod["containers"]])


def test_the_checker_of_this_test_refuses_what_the_standard_refuses() -> None:
    """It is not blind: each of these would be refused by the cluster."""
    pod = rendered()
    pod["hostNetwork"] = True
    pod["volumes"].append({"name": "disk", "hostPath": {"path": "/"}})
    pod["securityContext"] = {}
    pod["containers"][0]["securityContext"] = {"privileged": True}
    assert {"hostNetwork", "disk", "seccompProfile", "runAsNonRoot", "serve: rule 0", "serve: rule 1"} <= set(unrestricted(pod))


def test_serve_is_told_who_it_is_and_where_its_plan_is() -> None:
    """Each variable that the node needs, and the user's own before them."""
    template = render(spec(FULL), "main", SETTINGS)
    pod = bind(template, KEY, "main")["spec"]
    told = variables(pod, "serve")
    assert told["QUARTERDECK_NODE"] == "metadata.name"
    assert told["QUARTERDECK_PLAN"] == plan_name("late-flights", "main", template.hash)
    assert told["QUARTERDECK_ROLE"] == "main"
    assert told["QUARTERDECK_GRPC_PORT"] == "8081"
    assert told["QUARTERDECK_PLAN_SERVER"] == SETTINGS.plan_server_url
    assert told["QUARTERDECK_PLAN_FOLDER"] == "/etc/quarterdeck/plan"
    assert told["QUARTERDECK_NODE_TOKEN_FILE"] == "/var/run/quarterdeck/token/token"
    assert told["REGION"] == "north"
    assert told["QUARTERDECK_MAX_ROWS"] == "10"


def test_only_main_opens_the_grpc_door() -> None:
    """Mirrored rows come over HTTP."""
    ports = container(rendered("challenger", {"grpc": True}), "serve")["ports"]
    assert [port["containerPort"] for port in ports] == [8080]
    assert "QUARTERDECK_GRPC_PORT" not in variables(rendered("challenger", {"grpc": True}), "serve")


def test_only_the_agent_sees_the_stores_credentials() -> None:
    """Secret and CA are files of its container, optional, and serve has neither them nor their places."""
    pod = rendered(store={"url": "s3://a/b", "secret": "keys", "caConfigMap": "ca"})
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["s3"]["secret"] == {"secretName": "keys", "optional": True}
    assert volumes["s3-ca"]["configMap"] == {"name": "ca", "optional": True}
    agent = variables(pod, "agent")
    assert (agent["QUARTERDECK_S3_FOLDER"], agent["QUARTERDECK_S3_CA"]) == (
        "/etc/quarterdeck/s3",
        "/etc/quarterdeck/s3-ca/ca.crt",
    )
    assert not {one["name"] for one in container(pod, "serve")["volumeMounts"]} & {"s3", "s3-ca"}
    assert {one["name"] for one in container(pod, "agent")["volumeMounts"]} == {"folder", "tmp", "s3", "s3-ca"}


def test_the_agent_starts_first_and_ends_last() -> None:
    """A native one: an init container that is always restarted, from the same image."""
    pod = rendered()
    assert [(one["name"], one["restartPolicy"]) for one in pod["initContainers"]] == [("agent", "Always")]
    assert container(pod, "agent")["image"] == container(pod, "serve")["image"] == SETTINGS.node_image


def test_pods_have_no_token_but_one_for_the_plan_server() -> None:
    """Nothing of the API server is open to a model."""
    pod = rendered()
    assert pod["automountServiceAccountToken"] is False
    (token,) = (one["projected"] for one in pod["volumes"] if "projected" in one)
    assert token == {
        "sources": [{"serviceAccountToken": {"audience": "quarterdeck-plan-server", "expirationSeconds": 3_600, "path": "token"}}]
    }


def test_probes_ask_the_nodes_own_routes() -> None:
    """Alive is not ready; starting has time of its own."""
    serve = container(rendered(), "serve")
    paths = {name: serve[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}


def test_placement_is_passed_on() -> None:
    """Machines, taints, registry secrets, service account, GPU."""
    pod = rendered(nodes=FULL)
    assert pod["nodeSelector"] == {"disk": "fast"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["serviceAccountName"] == "models"
    assert container(pod, "serve")["resources"] == {
        "requests": {"cpu": "250m"},
        "limits": {"memory": "2Gi", "nvidia.com/gpu": 1},
    }
    assert container(pod, "agent")["resources"] == {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        ({}, {"cpu": "50m", "memory": "128Mi"}),
        ({"memory": "64Mi"}, {"cpu": "50m"}),
        ({"cpu": "20m", "memory": "1Gi"}, {"memory": "128Mi"}),
        ({"cpu": 1, "memory": "128Mi"}, {"cpu": "50m", "memory": "128Mi"}),
    ],
)
def test_the_agent_never_asks_for_more_than_its_limit(limits: dict[str, Any], requests: dict[str, str]) -> None:
    """The API server would refuse the whole pod."""
    resources = container(rendered(nodes={"resources": {"limits": limits}}), "agent")["resources"]
    assert resources == {"requests": requests, **({"limits": limits} if limits else {})}


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"nodes": {"replicas": 5}}, False),
        ({"nodes": {"challengerReplicas": 2}}, False),
        ({"access": "public", "records": "off", "progressSeconds": 20}, False),
        ({"model": {"name": "m", "version": 2}}, False),
        ({"nodes": {"image": "registry.example/other:1"}}, True),
        ({"nodes": {"env": {"REGION": "north"}}}, True),
        ({"nodes": {"templateRevision": 1}}, True),
        ({"store": {"url": "s3://a/b", "secret": "other"}}, True),
    ],
    ids=str,
)
def test_a_template_is_rendered_anew_when_a_person_changes_what_pods_are(change: dict[str, Any], anew: bool) -> None:
    """Numbers of pods, versions and access change no pod."""
    stored = render(spec(), "main", SETTINGS)
    newer = SETTINGS.model_copy(update={"node_image": "registry.example/node:9"})
    kept, outdated = keep(stored, render(spec(**change), "main", newer))
    assert (kept != stored, outdated) == (anew, not anew)


def test_the_same_operator_finds_its_own_template_up_to_date() -> None:
    """Rendering is the same for the same input."""
    stored = Template.model_validate_json(render(spec(FULL), "main", SETTINGS).model_dump_json())
    assert keep(stored, render(spec(FULL), "main", SETTINGS)) == (stored, False)
    assert len(stored.hash) == 10


def test_binding_leaves_the_stored_template_as_it_is() -> None:
    """It is used again and again."""
    template = render(spec(), "main", SETTINGS)
    before = template.model_dump_json()
    assert bind(template, KEY, "main") == bind(template, KEY, "main")
    assert template.model_dump_json() == before


def test_a_deployments_own_store_never_gets_the_operators_credentials() -> None:
    """The operator's store comes whole or not at all."""
    own = store_of(spec(store={"url": "s3://elsewhere/x"}), SETTINGS)
    default = store_of(spec(), SETTINGS)
    assert own is not None
    assert own.secret is None
    assert default is not None
    assert (default.url, default.secret) == ("s3://packages/all", "s3-keys")
    assert store_of(spec(), SETTINGS.model_copy(update={"store": ""})) is None
