"""Settings of a `kubernetes` infrastructure, and how one is made of them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from quarterdeck.errors import InvalidInput
from quarterdeck.placement import KEYRING, ObjectName, Store
from quarterdeck.schema import Camel, Name
from quarterdeck_deployer.database import Database
from quarterdeck_deployer.infrastructures.cluster_base import Cluster, Place
from quarterdeck_deployer.infrastructures.kubernetes_infrastructure import Learn, Manner, OnKubernetes, Ring
from quarterdeck_deployer.infrastructures.scope import Scope


class KubernetesSettings(Camel):
    """What the row of a `kubernetes` infrastructure says beside its store."""

    namespace: Name = Field(description="Namespace of the ModelDeployments and of the keyring; an operator must look after it.")
    kubeconfig: str = Field(
        "", max_length=1_024, description="Path on the deployer's host; empty: as its pod may, or KUBECONFIG."
    )
    context: str = Field("", max_length=253, description="Context of the kubeconfig; empty: its current one.")
    keyring: ObjectName = Field(KEYRING, description="ConfigMap that holds the keys' digests.")
    node_store: Store | None = Field(
        None, description="What `spec.store` of its deployments says; left out: the operator's default store holds."
    )
    url: Annotated[str, Field(max_length=1_024, pattern=r"^https?://")] = Field(
        "http://{name}.{namespace}.svc", description="Where callers and console reach a deployment."
    )
    s3_folder: str = Field("", description="Folder with credentials of its store, on the deployer's host.")
    s3_ca: str = Field("", description="File with the authority of its store's certificate, on the deployer's host.")

    @field_validator("url")
    @classmethod
    def _template(cls, value: str) -> str:
        try:
            value.format(name="a", namespace="b")
        except (KeyError, IndexError, ValueError):
            raise ValueError("knows {name} and {namespace} only") from None
        return value


def read_settings(given: dict[str, Any], name: str = "") -> KubernetesSettings:
    """Settings as they stand in a row, or come from a person.

    Raises:
        InvalidInput: naming the first setting that cannot be.
    """
    try:
        return KubernetesSettings.model_validate(given, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "settings"
        raise InvalidInput(
            f"{field}: {first['msg']}.",
            kind="infrastructure",
            name=name,
            hint="See docs/guides/kubernetes.md for what a kubernetes infrastructure is told.",
        ) from None


def on_kubernetes(store: str, database: Database, scope: Scope, given: dict[str, Any], ring: Ring, learn: Learn) -> OnKubernetes:
    """The running object of a row.

    Raises:
        InvalidInput: its settings cannot be read.
    """
    settings = read_settings(given, scope.infrastructure)
    place = Place(settings.namespace, settings.kubeconfig, settings.context)

    def connect() -> Cluster:
        # The client is large and slow to load, and most instances have no cluster.
        from quarterdeck_deployer.infrastructures.cluster import ClusterApi

        return ClusterApi(place)

    node_store = settings.node_store.model_dump(mode="json", by_alias=True, exclude_none=True) if settings.node_store else None
    manner = Manner(settings.namespace, settings.keyring, node_store, settings.url, ring)
    return OnKubernetes(store, database, scope, connect, manner, learn)
