"""The image of a node with the environment that a package was made with: its build context, and who builds it.

checkout's Dockerfile.node and sources + lock of node and package together → context → docker, podman or buildah
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quarterdeck.errors import InvalidInput, NotFound, PackageRefused, QuarterdeckError
from quarterdeck.manifest import Environment, Manifest

DOCKERFILE = "Dockerfile.node"
LOCK = "requirements/image-node.lock"
SOURCES = (
    DOCKERFILE,
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "pyproject.toml",
    "requirements/image-build.lock",
    LOCK,
    "tools/image",
    "core",
    "api_node",
)
"""What Dockerfile.node copies, and itself, below the checkout."""
BUILDERS = ("docker", "podman", "buildah")
_CHECKOUT = Path(__file__).resolve().parents[2]
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")


class BuildFailed(QuarterdeckError):
    """A program that resolves or builds has ended badly; what it said stands above."""

    default_code = "image-failed"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the image of one package is made from.

    Attributes:
        tag: name of the image.
        base: image that it starts from; its Python is of the feature release that made the package.
        requirements: the recorded libraries, each in its recorded version.
    """

    tag: str
    base: str
    requirements: tuple[str, ...]

    def build_args(self) -> list[str]:
        """Options of every builder but the context."""
        # By its name only: a registry's address may hold a password, which lists of processes would show.
        registry = ["--build-arg", "PIP_INDEX_URL"] if os.environ.get("PIP_INDEX_URL") else []
        return ["--file", DOCKERFILE, "--tag", self.tag, "--build-arg", f"BASE={self.base}", *registry]


def recipe(manifest: Manifest, tag: str = "", base: str = "") -> Recipe:
    """The recipe for a package; `tag` and `base` where they are given.

    Raises:
        InvalidInput: the package is compiled, so every node serves it.
        PackageRefused: the recorded environment is none that could be installed.
    """
    if manifest.form == "compiled":
        hint = "Deploy it with the standard image: leave `spec.nodes.image` out."
        raise InvalidInput(
            f"{manifest.model} is compiled and needs no image of its own.", kind="package", name=manifest.model, hint=hint
        )
    python = _feature_release(manifest)
    short = manifest.digest.removeprefix("sha256:")[:12]
    return Recipe(
        tag=tag or f"quarterdeck-node:{manifest.model}-{short}",
        base=base or f"python:{python}-slim",
        requirements=tuple(_requirements(manifest)),
    )


def write_context(folder: Path, made: Recipe, environment: Environment, checkout: Path | None = None) -> None:
    """Write everything that the image is built from; the folder must be empty or not exist.

    Args:
        folder: where to.
        made: the package's recipe.
        environment: the package's, for the interpreter that is resolved for.
        checkout: of Quarterdeck; the one that this program runs from where None.

    Raises:
        InvalidInput: the folder holds something.
        NotFound: no checkout, or uv is not installed.
        BuildFailed: no versions go together.
    """
    source = checkout or _CHECKOUT
    if missing := [name for name in SOURCES if not (source / name).exists()]:
        hint = "Give a checkout of Quarterdeck with --checkout."
        raise NotFound(f"There is no {missing[0]} here to build from.", kind="file", name=missing[0], hint=hint)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"{folder} is not empty.", kind="folder", name=folder.name, hint="Name a new one.")
    for name in SOURCES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source / name, target)
    _lock(folder, made, environment)


def builder(wanted: str = "") -> str:
    """The program that builds: the one that is named, else the first that is there and works.

    Raises:
        NotFound: there is none.
    """
    for name in (wanted,) if wanted else BUILDERS:
        # Docker's command is often there without the service behind it; `version` asks for both.
        command = [name, "--version"] if name == "buildah" else [name, "version"]
        if shutil.which(name) and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return name
    named = wanted or f"{', '.join(BUILDERS[:-1])} or {BUILDERS[-1]}"
    hint = "Install one, or write the build context with --context FOLDER and build it elsewhere."
    raise NotFound(f"{named} is not there, or does not work.", kind="program", name=wanted, hint=hint)


def build(program: str, context: Path, made: Recipe) -> None:
    """Build the image; what the builder says goes to stderr.

    Raises:
        BuildFailed: it ended badly.
    """
    done = _told([program, "build", *made.build_args(), "."], context)
    if done:
        hint = "Its last lines say why; write the context with --context FOLDER to build with options of your own."
        raise BuildFailed(f"{program} has ended with status {done}.", kind="program", name=program, hint=hint)


def _feature_release(manifest: Manifest) -> str:
    found = re.match(r"(\d+\.\d+)(\.|$)", manifest.environment.python)
    if not found:
        raise _unusable(manifest, "python", manifest.environment.python)
    return found[1]


def _requirements(manifest: Manifest) -> list[str]:
    lines: list[str] = []
    for name, version in sorted(manifest.environment.libraries.items()):
        # They become lines of a file that installers obey, options included; a package may come from a stranger.
        if not _DISTRIBUTION.fullmatch(name) or not _VERSION.fullmatch(version):
            raise _unusable(manifest, "libraries", name)
        lines.append(f"{name}=={version}")
    return lines


def _unusable(manifest: Manifest, place: str, value: str) -> PackageRefused:
    return PackageRefused(
        f"The environment of {manifest.model} names {value!r}, which cannot be installed.",
        code="environment-unusable",
        kind="package",
        name=manifest.model,
        hint="Build the package again.",
        extra={"place": f"environment.{place}"},
    )


def _lock(folder: Path, made: Recipe, environment: Environment) -> None:
    """Resolve node and package together over the node's own lock, whose versions stay wherever they fit."""
    wanted = folder / "requirements" / "package.in"
    wanted.write_text("".join(f"{line}\n" for line in made.requirements))
    python = ".".join(environment.python.split(".")[:2])
    options = ["--python-version", python, "--python-platform", "linux", "--only-binary", ":all:", "--generate-hashes"]
    quiet = ["--quiet", "--no-emit-index-url", "--no-header", "--no-annotate"]
    sources = ["pyproject.toml", "--extra", "node", "requirements/package.in"]
    done = _told([_uv(), "pip", "compile", *sources, *options, *quiet, "--output-file", LOCK], folder)
    if done:
        hint = "What uv says above names the library; build the package again with versions that can be had."
        raise BuildFailed("Node and package find no environment that suits both.", kind="package", hint=hint)


def _uv() -> str:
    # An environment's programs need not be on the path.
    own = Path(sys.executable).with_name("uv")
    found = shutil.which("uv") or (str(own) if own.exists() else None)
    if not found:
        raise NotFound("uv, which resolves the environment, is not installed.", kind="program", name="uv", hint="pip install uv")
    return found


def _told(command: Sequence[str], folder: Path) -> int:
    # Stdout is for data: whoever pipes our answer must not get a builder's chatter.
    return subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.__stderr__, check=False).returncode
