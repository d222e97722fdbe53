"""The chart on a real API server: every object is taken, pods are as restricted as can be, upgrades keep what must stay."""

from __future__ import annotations

import base64
import json

import pytest
import yaml

from tests.apiserver import ApiServer
from tests.chart.helm import CHART, FILES, VALUES, helm, objects
from tests.chart.releases import MODEL, Release


def namespace_with(server: ApiServer, level: str) -> str:
    """A namespace where the server enforces a Pod Security level."""
    name = server.namespace()
    server.kubectl("label", "namespace", name, f"pod-security.kubernetes.io/enforce={level}")
    return name


@pytest.mark.parametrize("file", FILES)
def test_a_real_server_takes_every_object(server: ApiServer, file: str) -> None:
    """Fields, names and selectors are what the API says; nothing is unknown to it."""
    known = [one for one in objects(file) if one["kind"] != "PodMonitor"]
    # kubectl takes objects of one namespace at a time.
    for name in {one["metadata"].get("namespace", "default") for one in known}:
        if server.run_kubectl("get", "namespace", name).returncode:
            server.kubectl("create", "namespace", name)
        there = [one for one in known if one["metadata"].get("namespace", "default") == name]
        words = ("apply", "--dry-run=server", "--validate=strict", "--filename", "-")
        said = server.kubectl(*words, stdin=yaml.safe_dump_all(there), namespace=name)
        assert len(said.splitlines()) == len(there)


@pytest.mark.parametrize("file", ["defaults", "scoped", "busy"])
def test_pods_are_let_in_where_security_is_restricted(server: ApiServer, file: str) -> None:
    """By the server's own admission, which a root container does not pass."""
    namespace = namespace_with(server, "restricted")
    for one in objects(file):
        if one["kind"] == "Deployment":
            spec = {**one["spec"]["template"]["spec"], "serviceAccountName": "default"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}
            server.kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(pod), namespace=namespace)
            pod["spec"] = {**spec, "securityContext": {"runAsNonRoot": False}}
            said = server.run_kubectl("create", "--dry-run=server", "--filename", "-", stdin=json.dumps(pod), namespace=namespace)
            assert "violates PodSecurity" in said.stderr


def test_installed_it_says_what_to_type_next(release: Release) -> None:
    """And a namespace without a store is told so."""
    said = release.run("install", "--set", "store.url=s3://models-of-us/quarterdeck", "--set", "store.secret=our-store")
    assert f"kubectl --namespace {release.namespace} rollout status deployment/quarterdeck-operator" in said
    assert "Packages come from s3://models-of-us/quarterdeck with the Secret our-store of each namespace." in said
    command = next(line for line in said.splitlines() if "base64decode" in line).split(maxsplit=1)[1]
    template = command.partition("go-template=")[2].strip("'")
    token = release.server.kubectl(
        "get", "secret", "quarterdeck-deployer-tokens", "--output", f"go-template={template}", namespace=release.namespace
    )
    assert len(token) == 43
    assert "port-forward service/quarterdeck-deployer 8400" in said
    assert "No default store is set" in release.run("upgrade", "--set", "store.url=")


def test_an_upgrade_keeps_tokens_authority_and_models(release: Release) -> None:
    """And neither a rollback nor another upgrade touches them; the pods' own template changes only by what was set."""
    release.run("install")
    filled = {"data": {"ca.key": base64.b64encode(b"the operator's").decode()}}
    release.server.kubectl(
        "patch", "secret", "quarterdeck-plan-server", "--patch", json.dumps(filled), namespace=release.namespace
    )
    release.server.kubectl("create", "--filename", "-", stdin=json.dumps(MODEL), namespace=release.namespace)
    tokens = release.get("secret", "quarterdeck-deployer-tokens")["data"]
    operator = release.get("deployment", "quarterdeck-operator")["spec"]["template"]

    release.run("upgrade", "--set", "node.image.tag=v2", "--set", "deployer.logLevel=debug")
    assert release.get("deployment", "quarterdeck-operator")["spec"]["template"] != operator
    for verb in ("", "rollback", "upgrade"):
        if verb:
            release.run(verb)
            assert release.get("deployment", "quarterdeck-operator")["spec"]["template"] == operator
        assert release.get("secret", "quarterdeck-plan-server")["data"] == filled["data"]
        assert release.get("secret", "quarterdeck-deployer-tokens")["data"] == tokens
        assert release.get("modeldeployment", "late-flights")["metadata"]["generation"] == 1


def test_an_uninstall_keeps_models_and_the_registry(release: Release) -> None:
    """Definition, ModelDeployments and volume stay, nothing else does; the same release takes them over again."""
    release.run("install")
    release.server.kubectl("create", "--filename", "-", stdin=json.dumps(MODEL), namespace=release.namespace)
    release.run("uninstall")
    left = release.names("modeldeployments,pvc,deployments,services,secrets,roles,rolebindings,ingresses")
    assert left == {"modeldeployment.quarterdeck.dev/late-flights", "persistentvolumeclaim/quarterdeck-deployer"}
    everywhere = release.server.kubectl("get", "clusterroles,clusterrolebindings", "--output", "name")
    assert f"{release.namespace}-quarterdeck" not in everywhere
    release.run("install")
    assert release.get("modeldeployment", "late-flights")["spec"]["model"]["version"] == 1


def test_a_definition_that_kubectl_made_can_be_taken_over(release: Release) -> None:
    """Either way in leads to the other: helm refuses it with the owner's name, and takes it where it is told to."""
    release.server.kubectl("apply", "--server-side", "--filename", str(CHART.parent.parent / "crds"))
    done = helm("install", "quarterdeck", str(CHART), "--namespace", release.namespace, server=release.server)
    assert "modeldeployments.quarterdeck.dev" in done.stderr
    release.run("install", "--take-ownership")
    assert release.run("uninstall")


RIGHTS = [
    ("patch", "modeldeployments.quarterdeck.dev --subresource=status", True, False),
    ("update", "modeldeployments.quarterdeck.dev", False, False),
    ("patch", "modeldeployments.quarterdeck.dev", False, False),
    ("create", "deployments.apps", True, False),
    ("update", "configmaps", True, False),
    ("list", "pods", True, False),
    ("delete", "pods", False, False),
    ("create", "pods --subresource=exec", False, False),
    ("list", "secrets", False, False),
    ("get", "secrets", False, False),
    ("get", "secrets/quarterdeck-plan-server", False, False),
    ("create", "tokenreviews.authentication.k8s.io", True, True),
]
"""Verb, resource, whether in a watched namespace, whether in any other."""


DEPLOYER_RIGHTS = [
    ("create", "modeldeployments.quarterdeck.dev", True),
    ("patch", "modeldeployments.quarterdeck.dev", True),
    ("delete", "modeldeployments.quarterdeck.dev", True),
    ("watch", "modeldeployments.quarterdeck.dev", True),
    ("patch", "modeldeployments.quarterdeck.dev --subresource=status", False),
    ("create", "configmaps", True),
    ("patch", "configmaps/quarterdeck-keyring", True),
    ("get", "configmaps/quarterdeck-keyring", True),
    ("get", "configmaps/quarterdeck-key-uses", True),
    ("patch", "configmaps/quarterdeck-key-uses", False),
    ("get", "configmaps/others", False),
    ("patch", "configmaps/others", False),
    ("list", "configmaps", False),
    ("list", "pods", True),
    ("delete", "pods", False),
    ("get", "secrets", False),
    ("create", "deployments.apps", False),
]
"""Verb, resource, whether the deployer may do it in its namespace; nowhere else it may do any of this."""


def test_the_deployers_rights_end_at_its_namespace(release: Release) -> None:
    """Asked of the server itself."""
    models = release.server.namespace()
    release.run("install", "--set", f"deployer.kubernetes.namespaces={{{models}}}")
    assert [row for row in DEPLOYER_RIGHTS if release.may(row[0], row[1], models, "deployer") != row[2]] == []
    assert [row for row in DEPLOYER_RIGHTS if release.may(row[0], row[1], release.namespace, "deployer")] == []


def test_rights_end_at_the_watched_namespace(release: Release) -> None:
    """Asked of the server itself."""
    watched, other = release.server.namespace(), release.server.namespace()
    release.run("install", "--set", f"watchNamespaces={{{watched}}}")
    assert [row for row in RIGHTS if release.may(row[0], row[1], watched) != row[2]] == []
    assert [row for row in RIGHTS if release.may(row[0], row[1], other) != row[3]] == []
    assert release.may("update", "secrets/quarterdeck-plan-server", release.namespace)
    assert not release.may("get", "secrets/quarterdeck-deployer-tokens", release.namespace)
    assert not release.may("list", "secrets", release.namespace)


def test_values_files_of_the_guide_install(release: Release) -> None:
    """The scoped file, as it is, in a cluster that has its namespaces."""
    for name in ("models-dev", "models-prod"):
        if release.server.run_kubectl("get", "namespace", name).returncode:
            release.server.kubectl("create", "namespace", name)
    release.run("install", "--values", str(VALUES / "scoped.yaml"))
    assert release.may("create", "services", "models-prod")
    assert not release.may("create", "services", release.namespace)
