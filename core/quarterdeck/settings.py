"""Settings of the programs: environment variables `QUARTERDECK_…`, read once at start into a frozen class per program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, ValidationError

from quarterdeck.errors import InvalidInput
from quarterdeck.schema import Frozen

PREFIX = "QUARTERDECK_"


class ProgramSettings(Frozen):
    """What every program is told. Each field is the variable `QUARTERDECK_<FIELD>`; durations are in seconds."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level that is logged.")
    lifeline_fd: int | None = Field(None, description="Inherited pipe; its end of file ends this process: its parent is gone.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the variables that are set and not empty.

        Raises:
            InvalidInput: a variable has a value that it cannot have; names the variable, not the value.
        """
        names = {PREFIX + field.upper(): field for field in cls.model_fields}
        # Set but empty is how compose files, unit files and charts say "not set".
        given = {field: environ[name] for name, field in names.items() if environ.get(name)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = PREFIX + str(first["loc"][0]).upper()
            raise InvalidInput(
                f"{variable} cannot be used: {first['msg']}.",
                kind="setting",
                name=variable,
                hint="Correct or remove it; docs/reference/settings.md says what it takes.",
            ) from None
