"""What the chart renders: rights, names that agree with the programs, switches, and what must never change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url

from quarterdeck import crd
from quarterdeck.placement import KEY_USES, KEYRING
from quarterdeck.settings import ProgramSettings
from quarterdeck_deployer.settings import Settings as DeployerSettings
from quarterdeck_operator.kube import EVENT, LEASE, MODEL_DEPLOYMENT, OWNED, POD, Kind
from quarterdeck_operator.settings import Settings as OperatorSettings
from tests.chart.helm import FILES, NAMESPACE, Object, containers, objects, of_kind, rendered

READ = {"get", "list", "watch"}
OWN = READ | {"create", "patch", "delete"}
Right = tuple[str, str, str]
"""API group, resource, verb."""


def rights(rules: list[Object]) -> set[Right]:
    """Every right of some rules; wildcards stay wildcards."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def of(kind: Kind, verbs: set[str], part: str = "") -> Iterator[Right]:
    """Rights on a kind of object, or on a part of it."""
    group = kind.api_version.rpartition("/")[0]
    yield from ((group, kind.plural + part, verb) for verb in verbs)


def wanted() -> set[Right]:
    """What the operator does with its own kinds, and nothing more."""
    owned = (right for kind in OWNED.values() for right in of(kind, OWN))
    return {
        *owned,
        # The record is compared and swapped.
        ("", "configmaps", "update"),
        *of(MODEL_DEPLOYMENT, READ),
        *of(MODEL_DEPLOYMENT, {"patch"}, "/status"),
        *of(POD, READ),
        *of(EVENT, {"create"}),
    }


TOKEN_REVIEW = ("authentication.k8s.io", "tokenreviews", "create")


def test_the_operator_may_do_what_it_does_and_nothing_more() -> None:
    """In the whole cluster where no namespaces are named."""
    (role,) = of_kind("ClusterRole", "defaults")
    assert rights(role["rules"]) == wanted() | {TOKEN_REVIEW}


def test_named_namespaces_bound_the_operator() -> None:
    """A Role in each, once; in the whole cluster only the question whose token it is."""
    (cluster,) = of_kind("ClusterRole", "scoped")
    assert rights(cluster["rules"]) == {TOKEN_REVIEW}
    roles = [one for one in roles_of("operator", "scoped") if one["metadata"]["namespace"] != NAMESPACE]
    assert [one["metadata"]["namespace"] for one in roles] == ["models-dev", "models-prod"]
    assert all(rights(one["rules"]) == wanted() for one in roles)
    names = ("quarterdeck-operator", "quarterdeck-operator-own")
    bound = [one["metadata"]["namespace"] for one in of_kind("RoleBinding", "scoped") if one["roleRef"]["name"] in names]
    assert sorted(bound) == ["models-dev", "models-prod", NAMESPACE]


def roles_of(program: str, file: str) -> list[Object]:
    """The Roles of one program."""
    return [
        one for one in of_kind("Role", file) if one["metadata"]["labels"]["app.kubernetes.io/name"] == f"quarterdeck-{program}"
    ]


@pytest.mark.parametrize(
    ("file", "namespaces"),
    [
        ("defaults", [NAMESPACE]),
        ("scoped", ["models-dev", "models-prod"]),
        ("busy", ["models-a", "models-b"]),
        ("operator-only", []),
        ("nothing", []),
        ("no-cluster", []),
    ],
)
def test_the_deployer_may_write_resources_and_one_keyring(file: str, namespaces: list[str]) -> None:
    """In the namespaces that it is told, which are its own or the watched ones where nobody names others."""
    roles = roles_of("deployer", file)
    assert [one["metadata"]["namespace"] for one in roles] == namespaces
    for one in roles:
        assert one["rules"] == [
            {
                "apiGroups": ["quarterdeck.dev"],
                "resources": ["modeldeployments"],
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            },
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [KEYRING], "verbs": ["get", "patch"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [KEY_USES], "verbs": ["get"]},
            {"apiGroups": ["", "metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
        ]
    pods = [one["spec"]["template"]["spec"] for one, container in containers(file) if container["name"] == "deployer"]
    assert [pod["automountServiceAccountToken"] for pod in pods] == [bool(namespaces)] * len(pods)
    if namespaces:
        assert environment(file, "deployer")["CLUSTER_NAMESPACES"] == ",".join(namespaces)


@pytest.mark.parametrize("file", ["defaults", "scoped", "busy", "operator-only"])
def test_one_secret_is_all_the_operator_may_touch(file: str) -> None:
    """Read and write, by its name: never list, never another one, nowhere else. The Lease likewise."""
    (own,) = [one for one in roles_of("operator", file) if one["metadata"]["namespace"] == NAMESPACE]
    front = "qd" if file == "busy" else "quarterdeck"
    group = LEASE.api_version.partition("/")[0]
    assert own["rules"] == [
        {"apiGroups": [group], "resources": [LEASE.plural], "verbs": ["create"]},
        {"apiGroups": [group], "resources": [LEASE.plural], "resourceNames": [f"{front}-operator"], "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [f"{front}-plan-server"], "verbs": ["get", "update"]},
    ]
    everywhere = [rule for kind in ("Role", "ClusterRole") for one in of_kind(kind, file) for rule in one["rules"]]
    assert sum("secrets" in rule["resources"] for rule in everywhere) == 1
    assert not any("*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]) for rule in everywhere)


@pytest.mark.parametrize("file", FILES)
def test_bindings_lead_from_each_account_to_its_own_roles(file: str) -> None:
    """None of the deployer's rights is the operator's, or the other way round."""
    for kind in ("Role", "ClusterRole"):
        roles = {(one["metadata"].get("namespace"), one["metadata"]["name"]) for one in of_kind(kind, file)}
        bindings = of_kind(f"{kind}Binding", file)
        assert {(one["metadata"].get("namespace"), one["roleRef"]["name"]) for one in bindings} == roles
        front = "qd" if file == "busy" else "quarterdeck"
        for each in bindings:
            (subject,) = each["subjects"]
            program = "deployer" if each["roleRef"]["name"] == f"{front}-deployer" else "operator"
            assert (subject["namespace"], subject["name"]) == (NAMESPACE, f"{front}-{program}")


PROGRAMS: dict[str, type[ProgramSettings]] = {"operator": OperatorSettings, "deployer": DeployerSettings}


@pytest.mark.parametrize("file", FILES)
def test_programs_understand_their_variables(file: str) -> None:
    """Each is a setting of that program, once, with a value that it takes."""
    for _, container in containers(file):
        names = [one["name"] for one in container["env"]]
        assert len(names) == len(set(names))
        values = {one["name"]: one.get("value", "qd") for one in container["env"] if one["name"].startswith("QUARTERDECK_")}
        values = {name: value.replace("$(POD_IP)", "10.0.0.7") for name, value in values.items()}
        program = PROGRAMS[container["name"]]
        assert {name.removeprefix("QUARTERDECK_").lower() for name in values} <= set(program.model_fields)
        program.from_environment(values)


def environment(file: str, program: str) -> dict[str, str]:
    """The variables of a program that have a value of their own."""
    (found,) = [container for _, container in containers(file) if container["name"] == program]
    return {one["name"].removeprefix("QUARTERDECK_"): one["value"] for one in found["env"] if "value" in one}


def test_the_operator_knows_names_as_the_chart_gave_them() -> None:
    """Service, Secret and Lease are those that there are and that it may touch; images are whole names."""
    told = environment("scoped", "operator")
    assert told["PLAN_SERVER_URL"] == f"https://quarterdeck-operator.{NAMESPACE}.svc:8443"
    assert told["PLAN_SERVER_SECRET"] in {one["metadata"]["name"] for one in of_kind("Secret", "scoped")}
    assert told["WATCH_NAMESPACES"] == "models-dev,models-prod"
    assert told["NODE_IMAGE"] == "registry.example.org/team/quarterdeck/node:1"
    assert (told["STORE_SECRET"], told["STORE_CA_CONFIG_MAP"]) == ("quarterdeck-store", "quarterdeck-store-ca")
    assert environment("defaults", "operator")["NODE_IMAGE"] == "quarterdeck/node:0.1.0"


def test_the_deployer_answers_to_the_names_it_is_called_by() -> None:
    """Its Service's inside, the ingress's or a forwarded port's outside; the latter is what it calls itself."""
    inside = DeployerSettings(host="0.0.0.0", urls=environment("defaults", "deployer")["URLS"].replace("$(POD_IP)", "10.0.0.7"))
    assert inside.url == "http://127.0.0.1:8400"
    service = f"quarterdeck-deployer.{NAMESPACE}.svc:8400"
    assert {service, "10.0.0.7:8400", "localhost:8400", "quarterdeck-deployer:8400"} <= inside.allowed_hosts
    assert environment("busy", "deployer")["URLS"].startswith("https://models.example.org,")


def test_the_deployer_is_led_to_its_database() -> None:
    """PostgreSQL's password comes from a mounted Secret, so that a rotated one arrives; without a URL it is SQLite."""
    told = environment("busy", "deployer")
    assert told["DATABASE"] == "postgresql://quarterdeck@postgres.example.org:5432/quarterdeck?sslmode=verify-full"
    assert told["DATABASE_PASSWORD_FILE"] == "/etc/quarterdeck/database/password"
    assert DeployerSettings(
        database=told["DATABASE"], database_password_file=Path(told["DATABASE_PASSWORD_FILE"])
    ).database_place == make_url(told["DATABASE"])
    (deployer,) = [one for one in of_kind("Deployment", "busy") if one["metadata"]["name"].endswith("-deployer")]
    volumes = {one["name"]: one for one in deployer["spec"]["template"]["spec"]["volumes"]}
    assert volumes["database"]["secret"]["secretName"] == "quarterdeck-database"
    assert {"DATABASE", "DATABASE_PASSWORD_FILE"} & environment("defaults", "deployer").keys() == set()


def test_people_sign_in_by_the_provider_that_is_named() -> None:
    """Secret and authority are mounted, so that rotated ones arrive; nothing of it where no provider is named."""
    told = {name: value for name, value in environment("busy", "deployer").items() if name.startswith("OIDC_")}
    settings = DeployerSettings.from_environment({f"QUARTERDECK_{name}": value for name, value in told.items()})
    assert (settings.oidc_issuer, settings.oidc_client_id) == ("https://id.example.org/realms/ours", "quarterdeck")
    assert (settings.oidc_scopes, settings.oidc_role_claim) == ("groups", "realm_access.roles")
    assert settings.roles_by_claim == {"ml-admins": "admin", "team=ml": "developer"}
    (deployer,) = [one for one in of_kind("Deployment", "busy") if one["metadata"]["name"].endswith("-deployer")]
    volumes = {one["name"]: one for one in deployer["spec"]["template"]["spec"]["volumes"]}
    assert volumes["sign-in"]["secret"]["secretName"] == "quarterdeck-oidc"
    assert volumes["sign-in-ca"]["configMap"]["name"] == "our-authority"
    assert (told["OIDC_CLIENT_SECRET_FILE"], told["OIDC_CA"]) == (
        "/etc/quarterdeck/sign-in/client-secret",
        "/etc/quarterdeck/sign-in-ca/ca.crt",
    )
    public = {name for name in environment("no-volume", "deployer") if name.startswith("OIDC_")}
    assert public == {"OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_ROLE_CLAIM"}
    assert not [name for name in environment("defaults", "deployer") if name.startswith("OIDC_")]


@pytest.mark.parametrize("file", ["defaults", "scoped", "busy", "no-volume"])
def test_volumes_and_ports_lead_somewhere(file: str) -> None:
    """Mounts have volumes, files lie in mounts, Services and probes name ports of the pod, and the root is read-only."""
    for one, container in containers(file):
        pod = one["spec"]["template"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() == {volume["name"] for volume in pod["spec"]["volumes"]}
        told = environment(file, container["name"])
        paths = [value for name, value in told.items() if name.endswith(("_FILE", "_FOLDER", "S3_CA", "DATA"))]
        assert [path for path in paths if not any(path.startswith(mount) for mount in mounts.values())] == []
        ports = {port["name"] for port in container["ports"]}
        probes = [next(iter(value.values())) for key, value in container.items() if key.endswith("Probe")]
        assert {probe["port"] for probe in probes if isinstance(probe, dict)} <= ports
        (service,) = [each for each in of_kind("Service", file) if each["metadata"]["name"] == one["metadata"]["name"]]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("file", FILES)
def test_selectors_do_not_change_with_versions_and_values(file: str) -> None:
    """They are immutable: an upgrade that changes one fails. Labels of pods stay too, lest a mere chart version rolls them."""
    for one in of_kind("Deployment", file):
        program = one["spec"]["template"]["spec"]["containers"][0]["name"]
        labels = {"app.kubernetes.io/name": f"quarterdeck-{program}", "app.kubernetes.io/instance": "quarterdeck"}
        assert one["spec"]["selector"]["matchLabels"] == labels
        assert one["spec"]["template"]["metadata"]["labels"] == labels


def test_programs_are_placed_as_told() -> None:
    """Machines, images, annotations and variables of one's own arrive in the operator's pod."""
    one, container = next((one, found) for one, found in containers("busy") if found["name"] == "operator")
    pod = one["spec"]["template"]["spec"]
    assert (one["spec"]["replicas"], container["image"]) == (2, "mirror/operator:7")
    assert pod["nodeSelector"] == {"pool": "system"}
    assert pod["tolerations"] == [{"key": "dedicated", "value": "system", "effect": "NoSchedule"}]
    assert pod["priorityClassName"] == "system-cluster-critical"
    assert "podAntiAffinity" in pod["affinity"]
    assert one["spec"]["template"]["metadata"]["annotations"] == {"example.org/team": "platform"}
    assert {"name": "QUARTERDECK_WORKERS", "value": "8"} in container["env"]
    assert container["resources"] == {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {"memory": "2Gi"}}


def test_images_are_fetched_with_the_secrets_that_were_named() -> None:
    """By operator and deployer; the cluster may choose whom they run as."""
    for one, container in containers("scoped"):
        pod = one["spec"]["template"]["spec"]
        assert pod["imagePullSecrets"] == [{"name": "registry-login"}]
        assert container["imagePullPolicy"] == "Always"
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_plan_servers_secret_comes_without_content() -> None:
    """What no template names, no upgrade changes: the operator alone fills it."""
    (secret,) = [one for one in of_kind("Secret", "defaults") if one["metadata"]["name"] == "quarterdeck-plan-server"]
    assert not {"data", "stringData"} & secret.keys()


@pytest.mark.parametrize(("file", "kept"), [("defaults", "keep"), ("busy", None)])
def test_models_outlive_the_release_unless_told_otherwise(file: str, kept: str | None) -> None:
    """Deleting the definition deletes every ModelDeployment."""
    (found,) = of_kind("CustomResourceDefinition", file)
    assert found["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == kept


def test_the_definition_is_the_one_of_the_code() -> None:
    """Braces, quotes and rules arrive as they are."""
    (found,) = of_kind("CustomResourceDefinition", "defaults")
    assert found["spec"] == crd.definition()["spec"]


def test_the_volume_outlives_the_release_or_is_ones_own() -> None:
    """Registry and audit trail lie on it."""
    (claim,) = of_kind("PersistentVolumeClaim", "defaults")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert of_kind("PersistentVolumeClaim", "busy") == []
    assert "claimName: our-volume" in rendered("busy")
    assert "secretName: our-tokens" in rendered("busy")
    assert of_kind("PersistentVolumeClaim", "no-volume") == []
    assert "persistentVolumeClaim" not in rendered("no-volume")


def test_switches_leave_nothing_behind() -> None:
    """Without operator and deployer there is nothing, and without the deployer nothing of it."""
    assert objects("nothing") == []
    assert {one["kind"] for one in objects("operator-only")}.isdisjoint(
        {"CustomResourceDefinition", "PodMonitor", "PersistentVolumeClaim", "Ingress"}
    )
    assert "deployer" not in rendered("operator-only")


def test_one_pod_monitor_finds_nodes_and_programs() -> None:
    """In the namespaces that are looked after and in the release's; only where the cluster knows PodMonitors."""
    (cluster,) = of_kind("PodMonitor", "defaults")
    (scoped,) = of_kind("PodMonitor", "scoped")
    assert cluster["spec"]["namespaceSelector"] == {"any": True}
    assert scoped["spec"]["namespaceSelector"] == {"matchNames": ["models-dev", "models-prod", NAMESPACE]}
    assert {one["port"] for one in cluster["spec"]["podMetricsEndpoints"]} == {"http", "metrics"}
    (busy,) = of_kind("PodMonitor", "busy")
    assert busy["metadata"]["labels"]["release"] == "prometheus"
    assert {one["interval"] for one in busy["spec"]["podMetricsEndpoints"]} == {"30s"}


@pytest.mark.parametrize("file", FILES)
def test_two_releases_share_no_name(file: str) -> None:
    """Not of objects without a namespace, and not inside one; the definition of ModelDeployment excepted."""
    once = {(one["kind"], one["metadata"]["name"]) for one in objects(file) if "namespace" not in one["metadata"]}
    other = yaml.safe_load_all(rendered(file, "--namespace", "elsewhere"))
    again = {(one["kind"], one["metadata"]["name"]) for one in other if one and "namespace" not in one["metadata"]}
    assert {kind for kind, _ in once & again} <= {"CustomResourceDefinition"}


@pytest.mark.parametrize("file", FILES)
def test_names_fit_and_objects_say_where_they_come_from(file: str) -> None:
    """Every object but the definition carries the release's labels; names fit into those of Services and pods."""
    long = objects(file, "--set", f"nameOverride={'n' * 40}")
    assert all(len(one["metadata"]["name"]) <= 63 for one in long if one["kind"] not in ("ClusterRole", "ClusterRoleBinding"))
    for one in objects(file):
        if one["kind"] != "CustomResourceDefinition":
            assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "quarterdeck"
            assert re.fullmatch(r"quarterdeck-\d.*", one["metadata"]["labels"]["helm.sh/chart"])
