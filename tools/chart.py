"""Writes the made files of the Helm chart: values.yaml, values.schema.json and README.md; part of `make generate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from pydantic import BaseModel

from quarterdeck.placement import Resources
from tests.support import ROOT
from tools.chart_values import Values
from tools.reference.tables import table

CHART = ROOT / "charts" / "quarterdeck"
NOTE = "Made by `make generate` from tools/chart_values.py."
README = f"""\
<!-- {NOTE} -->
# The chart of Quarterdeck

Installs the operator, which turns ModelDeployments into serving nodes, and the deployer: registry, API and web console.
Kubernetes 1.30 or newer. [The guide](../../docs/guides/kubernetes.md) leads from here to the first answer.

```console
$ helm install quarterdeck charts/quarterdeck --namespace quarterdeck --create-namespace \\
    --set store.url=s3://models-of-us/quarterdeck --set store.secret=quarterdeck-store
```

## What it may do in the cluster

The operator reads ModelDeployments and writes their status; it owns Deployments, Services, ConfigMaps, autoscalers,
disruption budgets and network policies; it reads pods, writes events and its Lease, and asks whose token a pod shows.
Of Secrets it may read and write one: the plan server's, which the chart makes. With `watchNamespaces` all of that holds in those
namespaces only; the question whose token it is stays cluster-wide.

The deployer writes ModelDeployments and the ConfigMap `quarterdeck-keyring`, reads the ConfigMap `quarterdeck-key-uses`, and
lists pods and what they use, in the namespaces of `deployer.kubernetes.namespaces` (else in the watched ones, else in the
release's own), and has no other right.

## Upgrades

The deployer migrates its database when it starts. The plan server's authority, the deployer's tokens and its volume stay as
they are. No pod of a model starts anew: ModelDeployments keep the image and pod template that they were deployed with, and
their condition TemplateOutdated says where a newer one waits.

## Values

"""


def render() -> dict[Path, str]:
    """The made files, by their path in the checkout."""
    return {
        CHART / "values.yaml": f"# {NOTE}\n" + "".join(_yaml(Values(), 0)),
        CHART / "values.schema.json": json.dumps(schema(), indent=2) + "\n",
        CHART / "README.md": README + table(["value", "default", "meaning"], _rows(Values(), "")),
    }


def schema() -> dict[str, Any]:
    """The JSON schema that helm holds values against."""
    made = Values.model_json_schema(by_alias=True)
    # Titles only repeat the names, and the root's words are of the class.
    made.pop("description")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_lean(made)}


def write() -> None:
    """Write them into the checkout."""
    for path, text in render().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


def fields(part: BaseModel) -> Iterator[tuple[str, str, Any]]:
    """Name in the file, meaning and default of each value of a section; defaults are sections where they are models."""
    for field, info in type(part).model_fields.items():
        # What is only there for other charts is nobody's to set.
        if info.alias != "global":
            yield info.alias or field, info.description or "", getattr(part, field)


def is_section(value: object) -> bool:
    """Whether a value is set by its parts. Resources are Kubernetes' own, and set as a whole."""
    return isinstance(value, BaseModel) and not isinstance(value, Resources)


def _yaml(part: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, meaning, value in fields(part):
        if depth == 0:
            yield "\n"
        yield from (f"{indent}# {line}\n" for line in wrap(meaning, 110))
        if is_section(value):
            yield f"{indent}{name}:\n"
            yield from _yaml(value, depth + 1)
        else:
            # JSON is YAML, and short.
            yield f"{indent}{name}: {json.dumps(_plain(value))}\n"


def _rows(part: BaseModel, path: str) -> Iterator[tuple[str, str, str]]:
    for name, meaning, value in fields(part):
        if is_section(value):
            yield from _rows(value, f"{path}{name}.")
        else:
            yield f"`{path}{name}`", f"`{json.dumps(_plain(value))}`", meaning


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, BaseModel) else value


def _lean(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _lean(value) for key, value in schema.items() if not _is_noise(key, value)}
    return [_lean(each) for each in schema] if isinstance(schema, list) else schema


def _is_noise(key: str, value: Any) -> bool:
    # A property may be called `title`; only the keyword is text. Kubernetes' own keywords mean nothing to helm.
    return (key == "title" and isinstance(value, str)) or key.startswith("x-")
