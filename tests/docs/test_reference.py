"""The reference is the code: pages are compared with what `make generate` writes, and nothing that exists is missing."""

from __future__ import annotations

import re

import pytest

from quarterdeck_deployer import metrics as deployer_metrics
from quarterdeck_node import metrics as node_metrics
from quarterdeck_node.app import DOORS
from tools import protocol
from tools.generate import PAGES, REFERENCE, render
from tools.reference import cli, console, errors, grpc, http, metrics, settings


@pytest.mark.parametrize("name", PAGES)
def test_page_is_what_the_code_says(name: str) -> None:
    """`make generate` would change nothing."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == render(name), "run `make generate`"


def test_the_grpc_protocol_is_what_protoc_makes_of_it() -> None:
    """`make generate` would change nothing in the Python side of the protocol either."""
    for path, made in protocol.render().items():
        assert (protocol.FOLDER / path).read_text(encoding="utf-8") == made, "run `make generate`"


def test_no_page_is_left_over() -> None:
    """Every page of the reference is generated."""
    assert sorted(path.name for path in REFERENCE.glob("*.md")) == sorted(PAGES)


def text(name: str) -> str:
    """A page as it is committed."""
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_setting_is_described() -> None:
    """Each variable stands there, and its class says in words what it is for."""
    page = text("settings.md")
    for one in settings.PROGRAMS.values():
        for name, field in one.model_fields.items():
            assert f"`{settings.variable(name)}`" in page
            assert field.description, name


def test_every_route_is_described() -> None:
    """Routes of the node and of the deployer, and each says what it does."""
    node, deployer = text("http-node.md"), text("http-deployer.md")
    assert [door.path for door in DOORS if f"`{door.method} {door.path}`" not in node or not door.answer.__doc__] == []
    for path, methods in http.deployer_openapi()["paths"].items():
        for method, route in methods.items():
            assert f"`{method.upper()} {path}`" in deployer
            assert route.get("description"), f"{method} {path}"


def test_every_page_of_the_console_is_described() -> None:
    """Each page and each form, with a sentence, and no page without a role."""
    page = text("console.md")
    assert [path for _, path, words in console.routes() if f"`{path}`" not in page or not words] == []
    assert "| None |" not in page


def test_every_method_of_the_grpc_door_is_described() -> None:
    """Each that the compiled protocol has stands there, with the words that the protocol's own file has for it."""
    page, told = text("grpc-node.md"), grpc.methods()
    assert sorted(told) == sorted(grpc.served())
    assert [name for name, words in told.items() if f"`{name}`" not in page or not words] == []


def test_every_metric_is_described() -> None:
    """Each series that the programs can make, by its exported name and with words."""
    page = text("metrics.md")
    for module in (node_metrics, deployer_metrics):
        for one in metrics.series(module):
            assert f"`{one.name}`" in page
            assert one.meaning


def test_every_error_code_is_described() -> None:
    """Each code that the source can raise."""
    page = text("errors.md")
    assert [code for code in errors.codes() if f"`{code}`" not in page] == []


def test_every_command_shows_an_example() -> None:
    """A command that does something says with an example how it is called."""
    page = text("cli.md")
    commands = [" ".join(["quarterdeck", *words]) for words in cli.commands()]
    groups = {command for command in commands if any(other.startswith(f"{command} ") for other in commands)}
    for command in set(commands) - groups:
        part = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert part, command
        assert "Example: quarterdeck" in part[1], command
