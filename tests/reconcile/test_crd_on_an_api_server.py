"""What a real API server makes of the definition: what it refuses and in which words, what it fills in, scales and shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from quarterdeck.errors import InvalidInput
from quarterdeck.resource_status import DeploymentStatus, LastFailure, NodeCount, ServingVersion, StatusCondition, StatusVersion
from quarterdeck.resources import ModelDeployment, read
from tests.apiserver import ApiServer
from tests.specs import specs
from tests.support import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DIGEST = "sha256:" + 64 * "a"
GOOD: dict[str, Any] = {
    "apiVersion": "quarterdeck.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "late-flights"},
    "spec": {"model": {"name": "late-flights", "version": 1}},
}
SCALED = {"autoscaling": {"maxReplicas": 5}}


def changed(spec: dict[str, Any], name: str = "late-flights") -> str:
    """The good resource with some fields of its spec set anew, as YAML."""
    return yaml.safe_dump({**GOOD, "metadata": {"name": name}, "spec": {**GOOD["spec"], **spec}})


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """An empty one."""
    return api_server.namespace()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_taken_and_read_back_as_it_was_meant(api_server: ApiServer, namespace: str, path: Path) -> None:
    """With everything that the server filled in it means what our own reader makes of the file."""
    api_server.kubectl("apply", "--filename", str(path), namespace=namespace)
    stored = {one["metadata"]["name"]: one["spec"] for one in api_server.get("modeldeployments", namespace=namespace)["items"]}
    for wanted in read(path.read_text(encoding="utf-8")):
        found = ModelDeployment.model_validate({"metadata": {"name": wanted.metadata.name}, "spec": stored[wanted.metadata.name]})
        assert found == wanted


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": {"name": "late-flights"}}, "needs a version or a digest: add `version: 1`, or the digest that is meant"),
    ({"nodes": {"replicas": 3, **SCALED}}, "`autoscaling` decides the number of nodes: set `replicas: 1` or leave it out"),
    ({"nodes": {"autoscaling": {"minReplicas": 6, "maxReplicas": 5}}}, "`minReplicas` is larger than `maxReplicas`"),
    ({"nodes": {"env": {"a-b": "c"}}}, "names in `env` are letters, digits and underscores"),
    ({"nodes": {"env": {"QUARTERDECK_PLAN": "mine"}}}, "the operator sets these variables itself, leave them out of `env`"),
    ({"nodes": {"tolerations": [{"operator": "Equal", "value": "x"}]}}, "`Equal` needs a `key`"),
    ({"nodes": {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}}, "`operator: Exists` takes no `value`"),
    (
        {"nodes": {"tolerations": [{"key": "a", "tolerationSeconds": 5}]}},
        "`tolerationSeconds` has a meaning with `effect: NoExecute` only",
    ),
]


@pytest.mark.parametrize(("spec", "said"), REFUSED)
def test_a_rule_is_kept_in_the_same_words_by_the_server_and_by_our_reader(
    api_server: ApiServer, namespace: str, spec: dict[str, Any], said: str
) -> None:
    """Between fields: what cannot be meant is refused before anything is stored."""
    done = api_server.run_kubectl("apply", "--filename", "-", stdin=changed(spec), namespace=namespace)
    assert done.returncode != 0
    assert said in done.stderr
    with pytest.raises(InvalidInput) as caught:
        read(changed(spec))
    assert said in caught.value.detail


def test_every_rule_is_tried_above() -> None:
    """But the one about the name, which binds clusters only."""
    found = json.dumps(yaml.safe_load((ROOT / "crds/modeldeployments.quarterdeck.dev.yaml").read_text(encoding="utf-8")))
    # The two tolerations with another operator are one rule.
    assert found.count('"rule":') == len(REFUSED) - 1 + 1


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"model": {"name": "late-flights", "version": 0}}, "spec.model.version"),
        ({"model": {"name": "late-flights", "version": 1.5}}, "spec.model.version"),
        ({"model": {"name": "late-flights", "version": "1"}}, "spec.model.version"),
        ({"model": {"name": "Late Flights", "version": 1}}, "spec.model.name"),
        ({"model": {"name": "late-flights", "digest": "sha256:1"}}, "spec.model.digest"),
        ({"model": {"name": "late-flights", "version": 1, "trust": "all"}}, "spec.model.trust"),
        ({"challenger": {}}, "spec.challenger.version"),
        ({"access": "everybody"}, "spec.access"),
        ({"records": False}, "spec.records"),
        ({"running": "yes"}, "spec.running"),
        ({"progressSeconds": 1}, "spec.progressSeconds"),
        ({"pin": {"version": 1}}, "spec.pin.reason"),
        ({"pin": {"version": 1, "reason": ""}}, "spec.pin.reason"),
        ({"rollback": {"marginPercent": 0.5}}, "spec.rollback.marginPercent"),
        ({"rollback": {"windowSeconds": 1}}, "spec.rollback.windowSeconds"),
        ({"store": {"url": "https://bucket"}}, "spec.store.url"),
        ({"store": {"url": "s3://bucket", "secret": "Mine"}}, "spec.store.secret"),
        ({"keyring": "a/b"}, "spec.keyring"),
        ({"nodes": {"replicas": -1}}, "spec.nodes.replicas"),
        ({"nodes": {"replicas": True}}, "spec.nodes.replicas"),
        ({"nodes": {"resources": {"limits": {"cpu": "1 core"}}}}, "spec.nodes.resources.limits.cpu"),
        ({"nodes": {"resources": {"limits": {"cpu": 0.5}}}}, "spec.nodes.resources.limits.cpu"),
        ({"nodes": {"resources": {"limits": {"cpu": -1}}}}, "spec.nodes.resources.limits.cpu"),
        ({"nodes": {"env": {"THREADS": 2}}}, "spec.nodes.env.THREADS"),
        ({"nodes": {"tolerations": [{"key": "a", "effect": "Never"}]}}, "spec.nodes.tolerations"),
    ],
)
def test_a_value_is_refused_by_the_server_and_by_our_reader_alike(
    api_server: ApiServer, namespace: str, spec: dict[str, Any], field: str
) -> None:
    """Nobody finds out on the cluster what the laptop let pass, or the other way round; both name the field."""
    done = api_server.run_kubectl("apply", "--filename", "-", stdin=changed(spec), namespace=namespace)
    assert done.returncode != 0
    assert field in done.stderr
    with pytest.raises(InvalidInput) as caught:
        read(changed(spec))
    assert caught.value.name.startswith(field)


# One try takes a second: the first that fails is told as it is, and not made smaller.
@settings(max_examples=4, phases=[Phase.generate])
@given(st.lists(specs, min_size=10, max_size=10))
def test_whatever_our_reader_takes_the_server_takes_in_the_same_sense(api_server: ApiServer, drawn: list[dict[str, Any]]) -> None:
    """Forty specs of all fields: none is refused, none is changed but by its defaults."""
    space = api_server.namespace()
    wanted = [ModelDeployment.model_validate({"metadata": {"name": f"d{at}"}, "spec": spec}) for at, spec in enumerate(drawn)]
    api_server.kubectl("create", "--filename", "-", stdin="---\n".join(one.to_yaml() for one in wanted), namespace=space)
    stored = api_server.get("modeldeployments", namespace=space)["items"]
    found = [
        ModelDeployment.model_validate({"metadata": {"name": one["metadata"]["name"]}, "spec": one["spec"]}) for one in stored
    ]
    assert found == wanted


@pytest.mark.parametrize("name", ["a" * 41, "1st", "late.flights"])
def test_a_name_that_pods_cannot_be_called_after_is_refused(api_server: ApiServer, namespace: str, name: str) -> None:
    """With the number of characters, and why."""
    done = api_server.run_kubectl("apply", "--filename", "-", stdin=changed({}, name), namespace=namespace)
    assert "metadata.name has at most 40 lower-case letters, digits and dashes and begins with a letter" in done.stderr


def test_the_longest_name_is_taken(api_server: ApiServer, namespace: str) -> None:
    """Forty characters."""
    api_server.kubectl("apply", "--filename", "-", stdin=changed({}, "a" * 40), namespace=namespace)


@pytest.mark.parametrize("way", [["create"], ["apply"], ["apply", "--server-side"]], ids=" ".join)
def test_a_mistyped_field_is_told(api_server: ApiServer, namespace: str, way: list[str]) -> None:
    """Definitions drop what they do not know; kubectl asks the server to refuse it instead, however it writes."""
    done = api_server.run_kubectl(*way, "--filename", "-", stdin=changed({"nodes": {"replicaz": 3}}), namespace=namespace)
    assert done.returncode != 0
    assert "spec.nodes.replicaz" in done.stderr


def test_null_is_what_is_not_there(api_server: ApiServer, namespace: str) -> None:
    """As in our own reader."""
    api_server.kubectl("apply", "--filename", "-", stdin=changed({"challenger": None, "nodes": None}), namespace=namespace)
    stored = api_server.get("md", "late-flights", namespace=namespace)["spec"]
    assert "challenger" not in stored
    assert stored["nodes"] == {"replicas": 1, "challengerReplicas": 1}


def test_nodes_are_scaled_unless_an_autoscaler_does_it(api_server: ApiServer, namespace: str) -> None:
    """`kubectl scale` writes spec.nodes.replicas, and is told why where it may not."""
    api_server.kubectl(
        "apply", "--filename", "-", stdin=changed({}) + "---\n" + changed({"nodes": SCALED}, "scaled"), namespace=namespace
    )
    api_server.kubectl("scale", "md/late-flights", "--replicas=4", namespace=namespace)
    assert api_server.get("md", "late-flights", namespace=namespace)["spec"]["nodes"]["replicas"] == 4
    done = api_server.run_kubectl("scale", "md/scaled", "--replicas=4", namespace=namespace)
    assert "`autoscaling` decides the number of nodes" in done.stderr


def whole_status() -> DeploymentStatus:
    """A status with everything in it, and a message as long as a traceback."""
    now = "2026-01-31T12:00:00Z"
    one, two = (StatusVersion(model="late-flights", version=number, digest=DIGEST) for number in (1, 2))
    condition = StatusCondition(
        type="Ready", status="True", reason="Answering", message="m" * 40_000, last_transition_time=now, observed_generation=1
    )
    return DeploymentStatus(
        observed_generation=1,
        phase="Ready",
        revision=7,
        active=two,
        previous=one,
        challenger=one,
        replicas=3,
        ready_replicas=2,
        selector="quarterdeck.dev/deployment=late-flights",
        nodes=NodeCount(ready=2, wanted=3),
        versions=[ServingVersion(model="late-flights", version=2, digest=DIGEST, nodes=2)],
        last_failure=LastFailure(
            node="late-flights-main-x", place="row 3", code="golden-mismatch", reason="It differs.", time=now
        ),
        conditions=[condition],
    )


def test_the_status_is_kept_whole_and_shown_in_lists(api_server: ApiServer, namespace: str) -> None:
    """It is a subresource of its own: writing it leaves spec and generation alone. Columns show what people look for."""
    api_server.kubectl("apply", "--filename", "-", stdin=changed({}), namespace=namespace)
    patch = json.dumps({"spec": {"access": "public"}, "status": whole_status().document()})
    api_server.kubectl("patch", "md/late-flights", "--subresource=status", "--type=merge", "--patch", patch, namespace=namespace)
    stored = api_server.get("md", "late-flights", namespace=namespace)
    assert DeploymentStatus.model_validate(stored["status"]) == whole_status()
    assert (stored["spec"]["access"], stored["metadata"]["generation"]) == ("instance", 1)
    header, row = (line.split() for line in api_server.kubectl("get", "quarterdeck", namespace=namespace).splitlines())
    assert header == ["NAME", "MODEL", "VERSION", "PHASE", "NODES", "READY", "CHALLENGER", "AGE"]
    assert row[:-1] == ["late-flights", "late-flights", "2", "Ready", "3", "2", "1"]
    scale = api_server.kubectl(
        "get", "--raw", f"/apis/quarterdeck.dev/v1alpha1/namespaces/{namespace}/modeldeployments/late-flights/scale"
    )
    assert json.loads(scale)["status"] == {"replicas": 3, "selector": "quarterdeck.dev/deployment=late-flights"}


def test_conditions_are_told_apart_by_their_type(api_server: ApiServer, namespace: str) -> None:
    """Two of one type are refused, so that each has one owner."""
    api_server.kubectl("apply", "--filename", "-", stdin=changed({}), namespace=namespace)
    condition = whole_status().document()["conditions"][0]
    patch = json.dumps({"status": {"conditions": [condition, condition]}})
    done = api_server.run_kubectl(
        "patch", "md/late-flights", "--subresource=status", "--type=merge", "--patch", patch, namespace=namespace
    )
    assert "Duplicate value" in done.stderr


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("modeldeployment", "An endpoint that answers predictions"),
        ("modeldeployment.spec", "Who may predict"),
        ("md.spec.nodes", "Main nodes; not together with `autoscaling`. Default: 1."),
        ("md.spec.nodes.resources.limits", "What it may take at most."),
        ("md.spec.nodes.tolerations", "Key of the taint"),
        ("md.spec.rollback", "Requests to the new version before its errors count. Default: 50."),
        ("md.status.conditions", "Why, in a sentence for people."),
    ],
)
def test_fields_are_explained(api_server: ApiServer, path: str, said: str) -> None:
    """`kubectl explain` has the words of the models, defaults among them."""
    assert said in " ".join(api_server.kubectl("explain", path).split())
