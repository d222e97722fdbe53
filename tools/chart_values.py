"""The values of the Helm chart as one model: values.yaml, values.schema.json and the chart's README.md are made from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from quarterdeck.placement import ObjectName, Resources, Toleration
from quarterdeck.schema import NAME_PATTERN, Camel

Label = Annotated[str, Field(pattern=NAME_PATTERN)]
OptionalName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]
Object = dict[str, Any]
LogLevel = Literal["debug", "info", "warning", "error"]
_ON_A_SMALL_MACHINE = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "1Gi"})


class Image(Camel):
    """Where an image is."""

    repository: Annotated[str, Field(min_length=1)] = Field("", description="Name of the image, without registry and tag.")
    tag: str = Field("", description="Its tag; empty: the chart's appVersion.")


class Images(Camel):
    """What all images share."""

    registry: str = Field("", description="Registry in front of all repositories, e.g. `registry.example.org/team`.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="When machines fetch images.")
    pull_secrets: list[ObjectName] = Field(
        [], description="Secrets for the registry, in this release's namespace; those of nodes stand in each ModelDeployment."
    )


class Crds(Camel):
    """The definition of ModelDeployment."""

    install: bool = Field(True, description="Whether this release brings it; `false` where `kubectl apply -f crds/` did.")
    keep: bool = Field(True, description="Whether it stays, with all ModelDeployments, when the release is uninstalled.")


class Store(Camel):
    """The store of packages and records, for ModelDeployments that name none and for the deployer."""

    url: Annotated[str, Field(pattern=r"^(s3://.*)?$", max_length=1_024)] = Field(
        "", description="`s3://BUCKET/PREFIX`, with `?endpoint=…&region=…` for servers other than AWS."
    )
    secret: OptionalName = Field(
        "",
        description="Secret with `access-key-id`, `secret-access-key` and, if there is one, `session-token`; one of this name in "
        "each namespace with models and in this release's. Empty: cloud identity.",
    )
    ca_config_map: OptionalName = Field(
        "", description="ConfigMap whose `ca.crt` signed the server's certificate; in the same namespaces."
    )


class Metrics(Camel):
    """What Prometheus is told."""

    pod_monitor: bool = Field(
        True, description="One PodMonitor for nodes, operator and deployer; only where the cluster knows PodMonitors."
    )
    interval: Annotated[str, Field(pattern=r"^[0-9]+(ms|s|m)$")] = Field("15s", description="Time between two looks.")
    labels: dict[str, str] = Field({}, description="Labels of the PodMonitor, by which a Prometheus selects it.")


class ServiceAccount(Camel):
    """The service account of a program."""

    annotations: dict[str, str] = Field({}, description="For cloud identities, e.g. `eks.amazonaws.com/role-arn`.")


class ValueSource(Camel):
    """A variable, by its value or from an object."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(description="The variable.")
    value: str | None = Field(None, description="Its value, as text.")
    value_from: Object | None = Field(None, description="Where it comes from instead, as in a pod.")


class Program(Camel):
    """What both programs have: image, place and surroundings."""

    enabled: bool = Field(True, description="Whether it is installed.")
    image: Image = Field(description="Its image.")
    resources: Resources = Field(_ON_A_SMALL_MACHINE, description="What the pod requests, and may take at most.")
    node_selector: dict[str, str] = Field({}, description="Labels of the machines that may be used.")
    tolerations: list[Toleration] = Field([], description="Taints that are put up with.")
    affinity: Object = Field({}, description="Affinity, as in a pod.")
    priority_class: OptionalName = Field("", description="Priority class of the pod.")
    pod_annotations: dict[str, str] = Field({}, description="Annotations of the pod.")
    extra_env: list[ValueSource] = Field([], description="Further variables; docs/reference/settings.md lists them.")
    log_level: LogLevel = Field("info", description="Least severe level that is logged.")
    service_account: ServiceAccount = Field(ServiceAccount(), description="Its service account.")


class Operator(Program):
    """Turns ModelDeployments into serving nodes."""

    image: Image = Field(Image(repository="quarterdeck/operator"), description="Its image.")
    replicas: Annotated[int, Field(ge=1, le=3)] = Field(1, description="Pods; one leads, the others stand by.")


class SignIn(Camel):
    """Signing in with a provider of identities, by OpenID Connect; docs/guides/sign-in.md tells how."""

    issuer: Annotated[str, Field(pattern=r"^(https://.*)?$", max_length=1_024)] = Field(
        "", description="Issuer of the provider, as it writes itself; empty: the admin token is the only way in."
    )
    client_id: str = Field("", description="What the provider knows this release as.")
    client_secret: OptionalName = Field(
        "", description="A Secret of your own with `client-secret`, read anew at each sign-in. Empty: a public client."
    )
    ca_config_map: OptionalName = Field("", description="ConfigMap whose `ca.crt` signed the provider's certificate.")
    scopes: str = Field("", description="Scopes beside `openid email profile`, with spaces between.")
    role_claim: Annotated[str, Field(min_length=1)] = Field(
        "groups", description="Claim of the ID token that roles follow from; `a.b` for a nested one."
    )
    roles: dict[Annotated[str, Field(pattern=r"^[^,]+$")], Literal["viewer", "developer", "approver", "admin"]] = Field(
        {}, description="What values of that claim give, e.g. `ml-admins: admin`; the highest counts."
    )


class Persistence(Camel):
    """The volume with the deployer's database."""

    enabled: bool = Field(
        True,
        description="Whether there is one. Without it `deployer.database.url` and `store.url` must be set: nothing else is kept.",
    )
    size: Annotated[str, Field(pattern=r"^[0-9]+(Mi|Gi|Ti)$")] = Field("5Gi", description="Its size.")
    storage_class: OptionalName = Field("", description="Its storage class; empty: the cluster's default.")
    existing_claim: OptionalName = Field("", description="A claim of your own in its place.")
    keep: bool = Field(True, description="Whether it stays when the release is uninstalled.")


class Database(Camel):
    """Where the deployer keeps what it knows."""

    # A value of the chart is for everybody to read who may read releases: no password belongs into it.
    url: Annotated[str, Field(pattern=r"^(postgres(ql)?://([^:@/]+@)?[^@/]+/[^@]+)?$")] = Field(
        "",
        description="`postgresql://USER@HOST:5432/NAME`, parameters of libpq such as `?sslmode=verify-full` behind it, no "
        "password. Empty: SQLite on the volume.",
    )
    password_secret: OptionalName = Field("", description="A Secret of your own with `password`; read anew when it is rotated.")


class Ingress(Camel):
    """A way from outside to console and API."""

    enabled: bool = Field(False, description="Whether there is one.")
    class_name: OptionalName = Field("", description="Ingress class; empty: the cluster's default.")
    host: str = Field("", description="Name under which it is reached.")
    tls_secret: OptionalName = Field("", description="Secret with the certificate; empty: plain HTTP.")
    annotations: dict[str, str] = Field({}, description="Annotations of the Ingress.")


class Kubernetes(Camel):
    """What the deployer does in this cluster."""

    enabled: bool = Field(True, description="Whether it writes ModelDeployments; without it, it has no right here.")
    namespaces: list[Label] = Field(
        [],
        description="Namespaces whose ModelDeployments it writes, each an infrastructure of its own. Empty: watchNamespaces, and "
        "the release's own where those are empty too.",
    )


class Deployer(Program):
    """Registry, API and web console."""

    image: Image = Field(Image(repository="quarterdeck/deployer"), description="Its image.")
    token_secret: OptionalName = Field(
        "",
        description="A Secret of your own with `token`, `node-token` and `mirror-token`, 32 characters or more each. Empty: the "
        "chart makes one and keeps it across upgrades; `helm template` cannot, so name one where it is used.",
    )
    kubernetes: Kubernetes = Field(Kubernetes(), description="What it does in this cluster.")
    database: Database = Field(Database(), description="SQLite on the volume, or PostgreSQL.")
    sign_in: SignIn = Field(SignIn(), description="Signing in with a provider of identities.")
    persistence: Persistence = Field(Persistence(), description="The volume with its database.")
    ingress: Ingress = Field(Ingress(), description="A way from outside to console and API.")


class Node(Camel):
    """What ModelDeployments get that name no image."""

    image: Image = Field(Image(repository="quarterdeck/node"), description="The image. A new one reaches nobody's pods unasked.")


class SecurityContext(Camel):
    """Who the pods run as; the rest of Pod Security \"restricted\" is not a matter of choice."""

    run_as_user: Annotated[int, Field(ge=1)] | None = Field(65_532, description="User and group; null: the cluster's choice.")
    fs_group: Annotated[int, Field(ge=1)] | None = Field(65_532, description="Group of the volumes; null: the cluster's choice.")


class Values(Camel):
    """The values of the chart."""

    name_override: Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?)?$")] = Field(
        "", description="Front of all names; empty: the release's name."
    )
    watch_namespaces: list[Label] = Field(
        [],
        description="Namespaces whose ModelDeployments are looked after: all that the operator may see then. Empty: all.",
    )
    images: Images = Field(Images(), description="What all images share.")
    node: Node = Field(Node(), description="What nodes are made from.")
    store: Store = Field(Store(), description="The default store.")
    crds: Crds = Field(Crds(), description="The definition of ModelDeployment.")
    metrics: Metrics = Field(Metrics(), description="What Prometheus is told.")
    security_context: SecurityContext = Field(SecurityContext(), description="Who operator and deployer run as.")
    operator: Operator = Field(Operator(), description="The operator.")
    deployer: Deployer = Field(Deployer(), description="The deployer.")
    # Helm hands this to every subchart, and the schema must not refuse it.
    global_: Object = Field({}, alias="global", description="Of a chart around this one; not used.")
