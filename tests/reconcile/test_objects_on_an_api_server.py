"""What the operator builds, put to a real API server: every object is valid as it is, and Pod Security takes the pods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from quarterdeck.plan import Role
from quarterdeck.resources import Spec
from quarterdeck_operator import plans
from quarterdeck_operator.children.everything import Parts, build
from quarterdeck_operator.names import Owner
from quarterdeck_operator.quantities import covers
from quarterdeck_operator.template import bind, render
from quarterdeck_operator.world import ClusterRecord, Object, Observed, ResourceKey, Template
from tests.apiserver import ApiServer
from tests.operator_objects import SEED, SETTINGS, decision, ref, spec

FULL: Mapping[str, Any] = {
    "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": 1}},
    "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}, {"operator": "Exists"}],
    "imagePullSecrets": ["registry"],
    "grpc": True,
    "env": {"REGION": "north"},
}
STORE = {"url": "s3://a/b", "secret": "keys", "caConfigMap": "ca"}
SPECS = {"least": spec(), "most": spec(FULL, store=STORE), "stopped": spec({"replicas": 3}, running=False)}
ROLES: list[Role] = ["main", "challenger"]


def objects(of: Spec, namespace: str) -> list[Object]:
    """Everything of a deployment with a challenger."""
    key = ResourceKey(namespace, "late-flights")
    world = Observed(key, None, ClusterRecord(), "", {}, (), ())
    templates: dict[Role, Template] = {role: render(of, role, SETTINGS) for role in ROLES}
    decided = decision(ref(1), challenger=ref(2), mirror=ref(2))
    built = plans.build(world, plans.Wish(of, 1, decided, templates, (), store="s3://a/b", seed=SEED))
    return list(build(Parts(Owner(key, "uid-1"), of, templates, built, 1, "CA PEM", {})).objects)


@pytest.mark.parametrize("of", SPECS.values(), ids=SPECS)
def test_every_object_is_taken_and_stored_as_it_was_meant(api_server: ApiServer, of: Spec) -> None:
    """Strictly: a field that the API server does not know would be an error; and read back, it says all that we said."""
    namespace = api_server.namespace()
    for one in objects(of, namespace):
        options = ["--server-side", "--field-manager=quarterdeck-operator", "--validate=strict", "--output=json", "--filename=-"]
        assert covers(json.loads(api_server.kubectl("apply", *options, stdin=json.dumps(one), namespace=namespace)), one)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("of", SPECS.values(), ids=SPECS)
def test_a_restricted_namespace_admits_the_pods(api_server: ApiServer, of: Spec, role: Role) -> None:
    """Pod Security itself says so."""
    namespace = api_server.namespace()
    api_server.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    template = bind(render(of, role, SETTINGS), ResourceKey(namespace, "late-flights"), role)
    named = {**template["metadata"], "name": "one"}
    pod = {"apiVersion": "v1", "kind": "Pod", **template, "metadata": named}
    api_server.kubectl("create", "--validate=strict", "--filename=-", stdin=json.dumps(pod), namespace=namespace)
    assert api_server.get("pod", "one", namespace=namespace)["metadata"]["name"] == "one"
