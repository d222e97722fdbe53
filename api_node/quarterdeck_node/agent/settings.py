"""Settings of the agent: environment variables `QUARTERDECK_…`, read once at start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quarterdeck.settings import ProgramSettings
from quarterdeck.storage import S3Files


class AgentSettings(ProgramSettings):
    """What one agent is told. Each field is the variable `QUARTERDECK_<FIELD>`; durations are in seconds."""

    folder: Path = Field(Path("."), description="The node's folder: plan, cache, spool and the agent's socket lie in it.")
    cache_bytes: Annotated[int, Field(ge=0)] = Field(
        20 * 2**30, description="Packages that nothing names are kept up to this size."
    )
    trial_seconds: Annotated[float, Field(gt=0)] = Field(120.0, description="Deadline of a trial load with its golden rows.")
    trial_bytes: Annotated[int, Field(ge=2**28)] = Field(8 * 2**30, description="Address space that a trial load may use.")
    s3_folder: Path | None = Field(
        None,
        description="Folder with `access-key-id`, `secret-access-key` and maybe `session-token`; read anew when they change.",
    )
    s3_ca: Path | None = Field(None, description="PEM file of the S3 server's authority; read anew when it changes.")
    ship_poll: Annotated[float, Field(gt=0)] = Field(0.25, description="Pause between looks for finished spool files.")
    ship_grace: Annotated[float, Field(ge=0)] = Field(8.0, description="How long the last records are shipped after SIGTERM.")

    @property
    def s3_files(self) -> S3Files:
        """Where credentials and authority of the S3 server lie, whatever the working folder becomes."""
        return S3Files(*(path.absolute() if path else None for path in (self.s3_folder, self.s3_ca)))
