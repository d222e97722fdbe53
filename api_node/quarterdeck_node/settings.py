"""Settings of the serve process: environment variables `QUARTERDECK_…`, read once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quarterdeck.plan import Role
from quarterdeck.schema import Name
from quarterdeck.settings import ProgramSettings


class Settings(ProgramSettings):
    """What one serve process is told. Each field is the variable `QUARTERDECK_<FIELD>`; durations are in seconds."""

    node: Name = Field("main", description="Name of this node; the plan server keeps one plan per name.")
    role: Role = Field("main", description="`main` answers callers, `challenger` answers mirrored rows.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8401, description="Port to listen on.")
    url: str = Field("", description="Base URL that callers reach this node by; empty: made from host and port.")
    folder: Path = Field(Path("."), description="The node's folder: plan, cache, spool and the agent's socket lie in it.")
    plan_server: str = Field("", description="Base URL of the plan server; empty: only the stored plan.json is used.")
    node_token_file: Path | None = Field(None, description="File with the bearer token for the plan server.")
    ship_seconds: Annotated[float, Field(gt=0)] = Field(5.0, description="Age at which a spool file is handed to the agent.")
    drain_seconds: Annotated[float, Field(ge=0)] = Field(2.0, description="How long the door stays open after SIGTERM.")
    receive_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="How long a request's head may take to arrive.")
    send_seconds: Annotated[float, Field(gt=0)] = Field(30.0, description="How long an answer may wait to be taken.")
    max_connections: Annotated[int, Field(ge=1)] = Field(
        1_024, description="Open connections beyond which a new one is answered 503 and closed."
    )
    model_seconds: Annotated[float, Field(gt=0)] = Field(30.0, description="Deadline of one batch in a model process.")
    probe_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="Pause between probes of what is active.")

    @property
    def base_url(self) -> str:
        """Where callers reach this node, without a slash at its end."""
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")
