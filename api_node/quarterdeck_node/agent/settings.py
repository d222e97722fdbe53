"""Settings of the agent: environment variables `QUARTERDECK_…`, read once at start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen

PREFIX = "QUARTERDECK_"


class AgentSettings(Frozen):
    """What one agent is told. Each field is the variable `QUARTERDECK_<FIELD>`; durations are in seconds."""

    folder: Path = Field(Path("."), description="The node's folder: plan, cache, spool and the agent's socket lie in it.")
    cache_bytes: Annotated[int, Field(ge=0)] = Field(
        20 * 2**30, description="Packages that nothing names are kept up to this size."
    )
    trial_seconds: Annotated[float, Field(gt=0)] = Field(120.0, description="Deadline of a trial load with its golden rows.")
    trial_bytes: Annotated[int, Field(ge=2**28)] = Field(8 * 2**30, description="Address space that a trial load may use.")
    ship_poll: Annotated[float, Field(gt=0)] = Field(0.25, description="Pause between looks for finished spool files.")
    ship_grace: Annotated[float, Field(ge=0)] = Field(8.0, description="How long the last records are shipped after SIGTERM.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level that is logged.")
    lifeline_fd: int | None = Field(None, description="Inherited pipe; its end of file ends this process.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> AgentSettings:
        """Read the variables that are set and not empty.

        Raises:
            InvalidInput: a variable has a value that it cannot have; names the variable, not the value.
        """
        given = {field: environ[PREFIX + field.upper()] for field in cls.model_fields if environ.get(PREFIX + field.upper())}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            hint = "Correct or remove the variable and start again."
            raise InvalidInput(f"{variable} cannot be used: {first['msg']}.", kind="setting", name=variable, hint=hint) from None
