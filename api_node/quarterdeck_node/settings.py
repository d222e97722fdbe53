"""Settings of the serve process: environment variables `QUARTERDECK_…`, read once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quarterdeck.plan import Role
from quarterdeck.schema import Name
from quarterdeck.settings import ProgramSettings
from quarterdeck_node.limits import DEFAULT, Limits
from quarterdeck_node.runtimes import Budget

_BUDGET = Budget()


class Settings(ProgramSettings):
    """What one serve process is told. Each field is the variable `QUARTERDECK_<FIELD>`; durations are in seconds."""

    node: Name = Field("main", description="Name of this node, as its reports name it.")
    plan: Name | None = Field(None, description="Name of the plan that this node follows; empty: the node's own name.")
    role: Role = Field("main", description="`main` answers callers, `challenger` answers mirrored rows.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8401, description="Port to listen on.")
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = Field(0, description="Port of the gRPC door; 0: there is none.")
    url: str = Field("", description="Base URL that callers reach this node by; empty: made from host and port.")
    folder: Path = Field(Path("."), description="The node's folder: plan, cache, spool and the agent's socket lie in it.")
    plan_server: str = Field("", description="Base URL of the plan server; empty: only plans in files are used.")
    plan_folder: Path | None = Field(
        None, description="Folder with a `plan.json` that others write, and with the plan server's authority as `ca.crt`."
    )
    node_token_file: Path | None = Field(None, description="File with the bearer token for the plan server.")
    ship_seconds: Annotated[float, Field(gt=0)] = Field(5.0, description="Age at which a spool file is handed to the agent.")
    drain_seconds: Annotated[float, Field(ge=0)] = Field(2.0, description="How long the door stays open after SIGTERM.")
    leave_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="How long /ready says no before the door closes, once nobody asks; longer than probes need."
    )
    receive_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="How long a request's head may take to arrive.")
    send_seconds: Annotated[float, Field(gt=0)] = Field(30.0, description="How long an answer may wait to be taken.")
    body_seconds: Annotated[float, Field(gt=0)] = Field(
        DEFAULT.body_seconds, description="How long a request's body may take to arrive."
    )
    keep_alive_seconds: Annotated[float, Field(gt=0)] = Field(75.0, description="How long an idle connection is kept open.")
    max_connections: Annotated[int, Field(ge=1)] = Field(
        1_024, description="Open connections beyond which a new one is answered 503 and closed."
    )
    max_head_bytes: Annotated[int, Field(ge=256)] = Field(
        DEFAULT.head_bytes, description="Largest request line and headers together."
    )
    max_head_fields: Annotated[int, Field(ge=1)] = Field(DEFAULT.head_fields, description="Most header fields of a request.")
    max_body_bytes: Annotated[int, Field(ge=1)] = Field(DEFAULT.body_bytes, description="Largest body.")
    max_bodies_bytes: Annotated[int, Field(ge=1)] = Field(
        DEFAULT.bodies_bytes, description="Bytes of all bodies that are being received; beyond it requests are shed."
    )
    max_rows: Annotated[int, Field(ge=1)] = Field(DEFAULT.rows, description="Most records of one request.")
    max_depth: Annotated[int, Field(ge=2)] = Field(DEFAULT.depth, description="Deepest nesting of a JSON document.")
    max_values: Annotated[int, Field(ge=1)] = Field(DEFAULT.values, description="Most values of a JSON document.")
    max_string: Annotated[int, Field(ge=1)] = Field(DEFAULT.string, description="Most characters of one text.")
    max_digits: Annotated[int, Field(ge=1)] = Field(DEFAULT.digits, description="Most digits of one whole number.")
    max_inflight: Annotated[int, Field(ge=1)] = Field(
        DEFAULT.inflight, description="Requests that may be under way at once; beyond it they are shed with 503."
    )
    queue_seconds: Annotated[float, Field(gt=0)] = Field(
        _BUDGET.queue_seconds, description="How long a request may wait for its model before it is shed with 503."
    )
    metrics_seconds: Annotated[float, Field(ge=0)] = Field(
        1.0, description="How long the text of a scrape is given again before it is made anew."
    )
    access_log: bool = Field(False, description="Whether each request is logged.")
    model_seconds: Annotated[float, Field(gt=0)] = Field(
        _BUDGET.batch_seconds, description="Deadline of one batch in a model process."
    )
    load_seconds: Annotated[float, Field(gt=0)] = Field(
        _BUDGET.load_seconds, description="Deadline of starting a model process and loading the package in it."
    )
    model_bytes: Annotated[int, Field(ge=0)] = Field(
        _BUDGET.memory_bytes, description="Address space of one model process; 0: as much as the system gives."
    )
    queue_rows: Annotated[int, Field(ge=1)] = Field(_BUDGET.queue_rows, description="Rows that may wait for one model process.")
    loop_seconds: Annotated[float, Field(ge=0)] = Field(
        _BUDGET.loop_seconds, description="Time of one row above which a compiled model gets a process of its own."
    )
    model_threads: Annotated[int, Field(ge=0)] = Field(
        _BUDGET.threads,
        description="Threads of OpenMP, BLAS and joblib in a model process; 0: as many as there are processors. "
        "Variables such as `OMP_NUM_THREADS` count for more.",
    )
    probe_seconds: Annotated[float, Field(gt=0)] = Field(10.0, description="Pause between probes of what is active.")

    @property
    def limits(self) -> Limits:
        """What requests may be."""
        return Limits(
            head_bytes=self.max_head_bytes,
            head_fields=self.max_head_fields,
            body_bytes=self.max_body_bytes,
            bodies_bytes=self.max_bodies_bytes,
            body_seconds=self.body_seconds,
            rows=self.max_rows,
            depth=self.max_depth,
            values=self.max_values,
            string=self.max_string,
            digits=self.max_digits,
            inflight=self.max_inflight,
        )

    @property
    def budget(self) -> Budget:
        """What a model outside the event loop may take."""
        return Budget(
            self.model_seconds,
            self.load_seconds,
            self.model_bytes,
            self.queue_rows,
            self.queue_seconds,
            self.loop_seconds,
            self.model_threads,
        )

    @property
    def plan_name(self) -> str:
        """Whose plan this node follows."""
        return self.plan or self.node

    @property
    def base_url(self) -> str:
        """Where callers reach this node, without a slash at its end."""
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")
