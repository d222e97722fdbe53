"""Settings of the operator: variables `QUARTERDECK_…` that the chart sets on its pod."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Literal

from pydantic import Field

from quarterdeck.placement import KEYRING
from quarterdeck.schema import NAME_PATTERN
from quarterdeck.settings import ProgramSettings

_Port = Annotated[int, Field(ge=0, le=65_535)]
_Namespaces = Annotated[str, Field(pattern=r"^[a-z0-9-]*( *, *[a-z0-9-]+)*$")]
_Label = Annotated[str, Field(pattern=NAME_PATTERN)]


class Settings(ProgramSettings):
    """What the operator is told. Durations are in seconds."""

    namespace: _Label = Field("quarterdeck", description="The operator's own namespace: its Lease and its Secret are there.")
    watch_namespaces: _Namespaces = Field("", description="Namespaces to look after, with commas between; empty: all.")
    node_image: str = Field(description="Image of nodes where a deployment names none.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="When pods fetch it.")
    store: str = Field("", description="Package and record store of deployments that name none: `s3://BUCKET/PREFIX`.")
    store_secret: str = Field("", description="Its Secret, in the deployment's namespace; empty: cloud identity.")
    store_ca_config_map: str = Field("", description="ConfigMap with its `ca.crt`, in the deployment's namespace.")
    plan_server_url: str = Field(
        "https://quarterdeck-operator.quarterdeck.svc:8443", description="How pods reach the plan server."
    )
    plan_server_secret: str = Field(
        "quarterdeck-plan-server", description="Secret for the plan server's certificate authority and the mirroring key."
    )
    identity: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="Who holds the Lease: the same after a restart in the same pod, where both parts are.",
    )
    host: str = Field("0.0.0.0", description="Address that the plan server and /metrics listen on.")
    port: _Port = Field(8443, description="Port of the plan server; 0: any free one.")
    metrics_port: _Port = Field(8080, description="Port of /healthz and /metrics; 0: any free one.")
    lease: _Label = Field("quarterdeck-operator", description="Lease that keeps two operators from writing at once.")
    lease_seconds: Annotated[float, Field(ge=3, le=300)] = Field(15, description="How long a silent leader stays leader.")
    keyring: str = Field(KEYRING, description="ConfigMap of keys where a deployment names none.")
    workers: Annotated[int, Field(ge=1, le=64)] = Field(4, description="Deployments that are worked on at once.")
    relist_seconds: Annotated[float, Field(gt=0)] = Field(300, description="Pause between two looks at every deployment.")
    request_seconds: Annotated[float, Field(gt=0)] = Field(15, description="How long one call of the API server may take.")
    stuck_seconds: Annotated[float, Field(gt=0)] = Field(
        120, description="After this long without a turn of its loops the operator calls itself dead, to be restarted."
    )

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The watched namespaces; none: the whole cluster."""
        return tuple(part.strip() for part in self.watch_namespaces.split(",") if part.strip())
