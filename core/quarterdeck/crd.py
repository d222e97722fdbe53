"""The CustomResourceDefinition of ModelDeployments, made from the models that our own reader uses.

    pydantic models → their JSON schemas → `_structural` → crds/modeldeployments.quarterdeck.dev.yaml, and the chart's template

An API server takes a narrow form of JSON schema: one type per field, nothing referred to, no alternatives. Defaults that are
more than "nothing" are the API server's to write down, so that `kubectl get -o yaml` shows what holds; a default that is
empty says no more than a field that is not there.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from quarterdeck.resource_status import DeploymentStatus
from quarterdeck.resources import KIND, Spec
from quarterdeck.rules import Rule, extension

GROUP = "quarterdeck.dev"
VERSION = "v1alpha1"
PLURAL = "modeldeployments"
CRD_NAME = f"{PLURAL}.{GROUP}"
NAME_LENGTH = 40
"""Most characters of a deployment's name in a cluster: pods, Services and plans are called after it, with suffixes."""

Json = dict[str, Any]

# Services begin with a letter in every cluster that has not opened a feature gate.
_NAME = Rule(
    f"self.metadata.name.matches('^[a-z]([a-z0-9-]{{0,{NAME_LENGTH - 2}}}[a-z0-9])?$')",
    f"metadata.name has at most {NAME_LENGTH} lower-case letters, digits and dashes and begins with a letter:"
    " pods and Services are called after it",
)
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)
_DROPPED = {"title", "additionalProperties", "properties", "required", "items", "anyOf", "default", "$defs"}


def definition() -> Json:
    """The CustomResourceDefinition as JSON data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["md"],
                "categories": ["quarterdeck"],
            },
            "versions": [_version()],
        },
    }


def text() -> str:
    """The CustomResourceDefinition as YAML."""
    return yaml.safe_dump(definition(), sort_keys=False, allow_unicode=True, width=120)


def _version() -> Json:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [
            _column("Model", "string", ".spec.model.name"),
            _column("Version", "integer", ".status.active.version", "Version that answers now."),
            _column("Phase", "string", ".status.phase"),
            _column("Nodes", "integer", ".status.nodes.wanted", "Main nodes that there should be."),
            _column("Ready", "integer", ".status.nodes.ready", "Main nodes that answer requests."),
            _column("Challenger", "integer", ".status.challenger.version", "Version that gets copies of the traffic."),
            _column("Wanted", "integer", ".spec.model.version", "Version that the spec names.", wide=True),
            _column("Revision", "integer", ".status.revision", "Number that answers name.", wide=True),
            _column("Access", "string", ".spec.access", wide=True),
            _column("Message", "string", '.status.conditions[?(@.type=="Ready")].message', wide=True),
            _column("Age", "date", ".metadata.creationTimestamp"),
        ],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.nodes.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {"openAPIV3Schema": _resource()},
    }


def _column(name: str, kind: str, path: str, about: str = "", *, wide: bool = False) -> Json:
    # A priority above 0 is shown by `--output wide` only.
    return {
        "name": name,
        "type": kind,
        "jsonPath": path,
        **({"description": about} if about else {}),
        **({"priority": 1} if wide else {}),
    }


def _resource() -> Json:
    spec, status = (model.model_json_schema(by_alias=True) for model in (Spec, DeploymentStatus))
    return {
        "description": "An endpoint that answers predictions with one version of a model and copies them to a challenger.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": _structural(spec, spec["$defs"]),
            "status": _lenient(_structural(status, status["$defs"])),
        },
        **extension(_NAME),
    }


def _structural(schema: Json, definitions: Json) -> Json:
    """The schema in the form that an API server takes.

    Raises:
        ValueError: the schema says something that has no such form.
    """
    schema = _plain(schema, definitions)
    unknown = set(schema) - set(_KEPT) - _DROPPED
    if unknown:
        raise ValueError(f"no form in a CustomResourceDefinition for {', '.join(sorted(unknown))}")
    found = {key: schema[key] for key in _KEPT if key in schema}
    if "x-kubernetes-int-or-string" in found:
        found["anyOf"] = schema["anyOf"]
    if "properties" in schema:
        found["properties"] = {name: _structural(one, definitions) for name, one in schema["properties"].items()}
    if "items" in schema:
        found["items"] = _structural(schema["items"], definitions)
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(schema["additionalProperties"], definitions)
    if schema.get("required"):
        found["required"] = schema["required"]
    default = _default(schema, found)
    if default is None:
        return found
    if default != {}:
        # kubectl explains fields by these words alone.
        found["description"] = f"{found['description']} Default: {default if isinstance(default, str) else json.dumps(default)}."
    return {**found, "default": default}


def _plain(schema: Json, definitions: Json) -> Json:
    """The schema itself where there is a reference to one, or a choice between one and null."""
    # An API server takes null for "not there" by itself.
    choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(choices) == 1:
        schema = {**choices[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    elif choices and "x-kubernetes-int-or-string" not in schema:
        raise ValueError("no form in a CustomResourceDefinition for a choice of types")
    if "$ref" in schema:
        named = definitions[schema["$ref"].rpartition("/")[2]]
        schema = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    if "const" in schema:
        schema = {**{key: value for key, value in schema.items() if key != "const"}, "enum": [schema["const"]]}
    return schema


def _default(schema: Json, structural: Json) -> Any:
    """What the API server writes where the field is left out; None: nothing."""
    if "default" not in schema:
        return None
    if "properties" in structural:
        # Only the empty object: the fields below have defaults of their own, and each is written down once.
        filled = isinstance(schema["default"], dict) and any("default" in one for one in structural["properties"].values())
        return {} if filled else None
    return schema["default"] or None


def _lenient(schema: Json, keys: tuple[str, ...] = ()) -> Json:
    """The schema without what could make an API server refuse a status of another version of the operator, or change it."""
    kept = {key: value for key, value in schema.items() if key not in ("default", "enum", "required")}
    if "properties" in schema:
        kept["properties"] = {name: _lenient(one) for name, one in schema["properties"].items()}
    if "items" in schema:
        kept["items"] = _lenient(schema["items"], tuple(schema.get("x-kubernetes-list-map-keys", ())))
    # What tells the members of a list apart has to be there, or the definition itself is refused.
    return {**kept, "required": list(keys)} if keys else kept
