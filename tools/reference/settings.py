"""docs/reference/settings.md: every environment variable, from the settings classes of the programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from quarterdeck import client
from quarterdeck.settings import PREFIX
from quarterdeck_deployer.settings import Settings as DeployerSettings
from quarterdeck_node.agent.settings import AgentSettings
from quarterdeck_node.settings import Settings as NodeSettings
from tools.reference.tables import first_line, table, type_words

PROGRAMS: dict[str, type[BaseModel]] = {
    "serve": NodeSettings,
    "agent": AgentSettings,
    "deployer": DeployerSettings,
}
MODULES = {
    "serve": "python -m quarterdeck_node",
    "agent": "python -m quarterdeck_node.agent",
    "deployer": "python -m quarterdeck_deployer",
}
INTRO = f"""\
# Settings

Programs are configured by environment variables only. `quarterdeck up` sets them for its children; whoever runs a
program by itself sets them by hand. A variable that is empty counts as not set.

The command line and `quarterdeck.client.connect()` look for the system in `.quarterdeck/` here or in a folder above,
unless `{client.URL_VARIABLE}` (base URL of a deployer) and `{client.TOKEN_VARIABLE}` (its admin token) name another.

The store's credentials are not Quarterdeck's own: boto3's default chain (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, …) finds
them; see [the guide to S3](../guides/s3.md).
"""


def page() -> str:
    """The page."""
    parts = [INTRO]
    for name, settings in PROGRAMS.items():
        properties = settings.model_json_schema()["properties"]
        rows = [
            [f"`{variable(field)}`", type_words(properties[field]), _default(info), info.description or ""]
            for field, info in settings.model_fields.items()
        ]
        head = f"\n## {name}\n\n`{MODULES[name]}`: {first_line(settings)}\n\n"
        parts.append(head + table(["variable", "type", "default", "meaning"], rows))
    return "".join(parts)


def variable(field: str) -> str:
    """The variable of a field."""
    return PREFIX + field.upper()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    return "" if value in (None, "") else f"`{value if isinstance(value, str | Path) else json.dumps(value)}`"
