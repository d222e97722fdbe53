"""The CustomResourceDefinition as text: its form, its size, its words, and that both of its files are what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from quarterdeck import crd
from quarterdeck.placement import OWN_VARIABLES
from quarterdeck.resource_status import DeploymentStatus
from quarterdeck.resources import Spec
from quarterdeck.schema import Camel
from quarterdeck_operator.template import SERVE, bind, render
from tests.operator_objects import KEY, SETTINGS, spec
from tools import crds

SCHEMA = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def fields(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a structural schema, with its path."""
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from fields(one, f"{path}.{name}")
    for below in ("items", "additionalProperties"):
        if below in schema:
            yield from fields(schema[below], f"{path}[]")


ALL = dict(fields(SCHEMA))


@pytest.mark.parametrize("path", crds.render(), ids=str)
def test_a_made_file_is_what_the_code_says(path: Path) -> None:
    """`make generate` would change nothing."""
    assert (crds.FOLDER / path).read_text(encoding="utf-8") == crds.render()[path], "run `make generate`"


def test_the_charts_template_is_the_same_definition() -> None:
    """Only the switches of the chart are added, and nothing in the words looks like one."""
    lines = crds.render()[crds.TEMPLATE].splitlines()
    plain = [line for line in lines if "{{" not in line]
    wanted = crd.definition()
    wanted["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    assert yaml.safe_load("\n".join(plain)) == wanted
    assert [line.strip() for line in lines if "{{" in line] == [
        "{{- if .Values.crds.install }}",
        "{{- if .Values.crds.keep }}",
        "{{- end }}",
        "{{- end }}",
    ]


def test_it_is_small() -> None:
    """A tenth of what an annotation of kubectl may hold, so that every way of applying it works."""
    assert len(crd.text().encode()) < 262_144 / 10


@pytest.mark.parametrize("path", [path for path in ALL if path])
def test_a_field_has_one_type_and_words(path: str) -> None:
    """Structural: a type, no alternatives but whole number or text, no float; and a sentence for `kubectl explain`."""
    one = ALL[path]
    if one.get("x-kubernetes-int-or-string"):
        assert one["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    else:
        assert one["type"] in {"object", "array", "string", "integer", "boolean"}
        assert "anyOf" not in one
    if path not in (".apiVersion", ".kind", ".metadata") and not path.endswith("[]"):
        assert re.search(r"^[A-Z`].*[.…]$", one["description"], re.DOTALL), path


def test_every_field_of_the_models_is_there() -> None:
    """By the names that people write."""
    for model, name in ((Spec, "spec"), (DeploymentStatus, "status")):
        wanted = model.model_json_schema(by_alias=True)["properties"]
        assert list(SCHEMA["properties"][name]["properties"]) == list(wanted)


def test_defaults_that_say_something_are_written_down() -> None:
    """What is not nothing is shown by `kubectl get -o yaml` and said by `kubectl explain`; the status is the operator's."""
    assert {path: one["default"] for path, one in ALL.items() if "default" in one} == {
        ".spec.model.trust": "data",
        ".spec.model.accelerator": "none",
        ".spec.challenger.trust": "data",
        ".spec.challenger.accelerator": "none",
        ".spec.project": "default",
        ".spec.access": "instance",
        ".spec.records": "spooled",
        ".spec.running": True,
        ".spec.rollback": {},
        ".spec.rollback.automatic": True,
        ".spec.rollback.minRequests": 50,
        ".spec.rollback.marginPercent": 5,
        ".spec.rollback.windowSeconds": 600,
        ".spec.progressSeconds": 600,
        ".spec.keyring": "quarterdeck-keyring",
        ".spec.nodes": {},
        ".spec.nodes.replicas": 1,
        ".spec.nodes.autoscaling.minReplicas": 1,
        ".spec.nodes.autoscaling.cpuPercent": 70,
        ".spec.nodes.challengerReplicas": 1,
        ".spec.nodes.tolerations[].operator": "Equal",
    }
    assert ALL[".spec.progressSeconds"]["description"].endswith(" Default: 600.")
    assert ALL[".spec.running"]["description"].endswith(" Default: true.")


def test_lists_and_maps_are_bounded() -> None:
    """A resource has an end, and rules over its parts have a price that the API server can tell beforehand."""
    for path, one in ALL.items():
        if path.startswith(".spec"):
            assert one.get("type") != "array" or "maxItems" in one, path
            assert "additionalProperties" not in one or "maxProperties" in one, path


def test_the_status_refuses_nothing_but_types() -> None:
    """An operator that is newer or older than the definition can write what it sees."""
    bounded = {"enum", "pattern", "maxLength", "minimum", "maximum", "default", "maxItems"}
    for path, one in ALL.items():
        if path.startswith(".status"):
            assert not bounded & set(one), path
            assert one.get("required", ["type"]) == ["type"], path


class _Choice(Camel):
    """A part that has two types."""

    either: int | str = Field(description="Either.")


class _Odd(Camel):
    """A part that says what definitions cannot."""

    even: Annotated[int, Field(multiple_of=2)] = Field(description="Even.")


@pytest.mark.parametrize(("model", "said"), [(_Choice, "a choice of types"), (_Odd, "multipleOf")])
def test_what_has_no_form_there_is_refused_when_it_is_made(
    model: type[Camel], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than left out without a word."""

    class _Wrapped(Camel):
        """A spec of it."""

        part: model  # type: ignore[valid-type]

    monkeypatch.setattr(crd, "Spec", _Wrapped)
    with pytest.raises(ValueError, match=said):
        crd.definition()


def test_variables_that_the_operator_sets_are_nobody_elses() -> None:
    """Otherwise a deployment could move the node off its plan, or would be told nothing when it is not heard."""
    pod = bind(render(spec({"grpc": True}), "main", SETTINGS), KEY, "main")["spec"]
    [serve] = [one for one in pod["containers"] if one["name"] == SERVE]
    assert {one["name"] for one in serve["env"]} == set(OWN_VARIABLES)
