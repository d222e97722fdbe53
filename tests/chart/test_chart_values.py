"""Values: described, checked by helm with words that help, each with an effect, and written down where people look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from tests.chart.helm import CHART, FILES, VALUES, helm, rendered
from tests.support import ROOT
from tools import chart
from tools.chart_values import Values


def leaves(part: BaseModel, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Dotted name, meaning and default of every value."""
    for name, meaning, value in chart.fields(part):
        if chart.is_section(value):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", meaning, value


@pytest.mark.parametrize("path", chart.render(), ids=lambda path: path.name)
def test_made_files_are_what_the_code_says(path: Path) -> None:
    """`make generate` would change nothing."""
    assert path.read_text(encoding="utf-8") == chart.render()[path], "run `make generate`"


def test_values_say_what_the_model_says() -> None:
    """values.yaml holds the defaults, whole, and they fit their own schema."""
    written = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {**Values().model_dump(mode="json", by_alias=True), **written} == Values().model_dump(mode="json", by_alias=True)
    assert Values.model_validate(written) == Values()


def test_every_value_is_described() -> None:
    """In the readme, and with words of its own."""
    page = (CHART / "README.md").read_text()
    assert [name for name, meaning, _ in leaves(Values()) if f"| `{name}` |" not in page or not meaning.endswith(".")] == []


def test_every_value_is_used_by_a_template() -> None:
    """By its last word at least: a value without effect is a promise that is not kept."""
    templates = "\n".join(path.read_text() for path in (CHART / "templates").iterdir())
    assert [name for name, _, _ in leaves(Values()) if f".{name.rpartition('.')[2]}" not in templates] == []


@pytest.mark.parametrize("file", FILES)
def test_files_of_values_fit_the_model(file: str) -> None:
    """The model is what the schema was made from, so both take the same files."""
    Values.model_validate(yaml.safe_load((VALUES / f"{file}.yaml").read_text()))


MISTAKES = [
    ("operator.replicas=two", "/operator/replicas", "got string, want integer"),
    ("operator.replicas=9", "/operator/replicas", "maximum"),
    ("deployer.ingres.enabled=true", "/deployer", "'ingres' not allowed"),
    ("store.url=https://example.org", "/store/url", "does not match pattern"),
    ("watchNamespaces=models", "/watchNamespaces", "got string, want array"),
    ("images.pullPolicy=Sometimes", "/images/pullPolicy", "'Always', 'IfNotPresent', 'Never'"),
    ("deployer.database.url=postgresql://me:secret@db/quarterdeck", "/deployer/database/url", "does not match pattern"),
    ("deployer.database.url=mysql://db/quarterdeck", "/deployer/database/url", "does not match pattern"),
    ("deployer.signIn.issuer=http://id.example.org", "/deployer/signIn/issuer", "does not match pattern"),
    ("deployer.signIn.roles.ml=owner", "/deployer/signIn/roles/ml", "'viewer', 'developer', 'approver', 'admin'"),
    ("deployer.persistence.size=5GB", "/deployer/persistence/size", "does not match pattern"),
    ("operator.extraEnv[0].value=x", "/operator/extraEnv/0", "missing property 'name'"),
]


@pytest.mark.parametrize(("given", "place", "words"), MISTAKES)
def test_a_mistake_is_named_with_its_place(given: str, place: str, words: str) -> None:
    """Before anything is installed."""
    done = helm("template", "x", str(CHART), "--kube-version", "1.36.0", "--set", given)
    assert done.returncode == 1
    assert f"- at '{place}':" in done.stderr
    assert words in done.stderr


HALVES = [
    # It would be open to every name, and the deployer would answer none of them.
    ("deployer.ingress.enabled=true", "deployer.ingress.host is empty: name the host"),
    # Whoever names one means PostgreSQL, and would get SQLite.
    ("deployer.database.passwordSecret=database", "deployer.database.passwordSecret goes with deployer.database.url"),
    ("deployer.signIn.issuer=https://id.example.org", "deployer.signIn.issuer and deployer.signIn.clientId go together"),
    ("deployer.signIn.clientId=quarterdeck", "deployer.signIn.issuer and deployer.signIn.clientId go together"),
    ("deployer.signIn.roles.ml=admin", "deployer.signIn has no issuer"),
    # The next pod would know nothing any more.
    ("deployer.persistence.enabled=false", "deployer.persistence.enabled=false needs deployer.database.url and store.url"),
    (
        "deployer.persistence.enabled=false,deployer.database.url=postgresql://db/quarterdeck",
        "deployer.persistence.enabled=false needs deployer.database.url and store.url",
    ),
]


@pytest.mark.parametrize(("given", "words"), HALVES)
def test_half_of_a_wish_is_refused(given: str, words: str) -> None:
    """Where it would be carried out, nobody would get what was meant."""
    done = helm("template", "x", str(CHART), "--kube-version", "1.36.0", "--set", given)
    assert done.returncode == 1
    assert words in done.stderr


def test_an_older_cluster_is_refused() -> None:
    """Nodes need native sidecar containers."""
    done = helm("template", "x", str(CHART), "--kube-version", "1.28.4")
    assert "chart requires kubeVersion: >=1.30.0-0" in done.stderr


@pytest.mark.parametrize("file", FILES)
def test_lint_has_nothing_to_say(file: str) -> None:
    """For every file of values; an icon is not wanted."""
    done = helm("lint", str(CHART), "--strict", "--values", str(VALUES / f"{file}.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


def test_the_schema_is_closed_and_says_what_each_value_is() -> None:
    """Editors show the words, and a mistyped name is refused."""
    made = json.loads((CHART / "values.schema.json").read_text())
    for name, part in {"": made, **made["$defs"]}.items():
        assert part["additionalProperties"] is False, name
        assert [field for field, one in part["properties"].items() if not {"description", "$ref"} & one.keys()] == [], name


def test_a_chart_around_this_one_may_hand_down_its_globals() -> None:
    """Helm adds them to the values of every subchart."""
    assert rendered("operator-only", "--set", "global.team=x") == rendered("operator-only")


def test_versions_go_together() -> None:
    """Chart, images and the Python package are released as one."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"]
    assert f'version = "{about["version"]}"' in (ROOT / "pyproject.toml").read_text()
