"""`quarterdeck package image`: a package that needs its recorded libraries is served from an image that has them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from quarterdeck.build import BuiltPackage
from tests.cluster import images
from tests.cluster.deployment import Deployment
from tests.cluster.installation import Installation
from tests.models import version_encoding_model
from tests.support import ROOT, eventually

MODEL = "recorded"
_BUILDER = """#!/bin/sh
# A user's own settings of buildah: where it keeps images, how it isolates, and a folder of wheels in place of a registry.
if [ "$1" = --version ]; then exec {buildah} --version; fi
shift
exec {buildah} {storage} build --isolation chroot --volume {wheels}:/wheels:ro \\
  --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels "$@"
"""


@pytest.fixture
def built(deployment: Deployment) -> BuiltPackage:
    """A package whose model needs scikit-learn, of the Python that the base image has."""
    found = version_encoding_model(1, "skops", MODEL)
    script = "import platform; print(platform.python_version())"
    pod, where = deployment.pods()[0]["metadata"]["name"], [f"--namespace={deployment.namespace}", "--container=serve"]
    python = deployment.node.kubectl("exec", pod, *where, "--", "python", "-c", script)
    environment = found.manifest.environment.model_copy(update={"python": python.strip()})
    return BuiltPackage(found.manifest.model_copy(update={"environment": environment}), found.files)


def test_a_package_is_served_from_an_image_with_its_environment(
    installation: Installation, deployment: Deployment, built: BuiltPackage, tmp_path: Path
) -> None:
    """Given a package that no standard node can load, when its image is built and named in the spec, then it answers."""
    ref = installation.publish(built, installation.bucket)
    deployment.apply(model={"name": ref.model, "version": ref.version})
    told = deployment.says("ModelLoaded", "False", within=30)
    assert "package image" in told["message"]
    folder = built.write(tmp_path / MODEL)
    assert _image("package", "image", str(folder), "--context", str(tmp_path / "context"))
    tag = f"{images.REGISTRY}/recorded:{ref.digest[7:19]}"
    programs = _builder(tmp_path, _wheels(tmp_path / "context" / "requirements" / "image-node.lock"))
    said = _image("package", "image", str(folder), "--tag", tag, "--base", images.base(), "--builder", "buildah", first=programs)
    assert (said["image"], said["builder"]) == (tag, "buildah")
    try:
        images.save(tag, tmp_path / "image.tar")
        installation.node.load_images([tmp_path / "image.tar"])
    finally:
        images.buildah("rmi", tag)
    deployment.apply(nodes={"image": tag})
    answer = eventually(lambda: _answered(deployment), 180, every=0.5)
    assert [each["prediction"] for each in answer["predictions"]] == [1.0]


def _answered(deployment: Deployment) -> dict[str, Any]:
    """The model's answer, once it is the one that answers."""
    told = deployment.predict(3.0)
    assert told["model"] == MODEL
    return told


def _image(*arguments: str, first: Path | None = None) -> dict[str, str]:
    """What the command answers."""
    path = os.pathsep.join([*([str(first)] if first else []), str(Path(sys.executable).parent), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path}
    environ.pop("PIP_INDEX_URL", None)
    command = [sys.executable, "-m", "quarterdeck_cli", *arguments, "-o", "json"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _builder(folder: Path, wheels: Path) -> Path:
    """A folder with a `buildah` that has our settings."""
    place = folder / "programs"
    place.mkdir()
    real = shutil.which("buildah")
    assert real is not None
    script = place / "buildah"
    script.write_text(_BUILDER.format(buildah=real, storage=" ".join(images.storage()), wheels=wheels))
    script.chmod(0o755)
    return place


def _wheels(lock: Path) -> Path:
    """The folder with every wheel of a lock, fetched once, and what builds our own code."""
    wheels = images.folder().parent / "wheels" / f"package-{images.digest(lock)}"
    wheels.mkdir(parents=True, exist_ok=True)
    with (wheels / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (wheels / "ready").exists():
            machine = os.uname().machine
            platforms = [part for kind in ("2_17", "2_28") for part in ("--platform", f"manylinux_{kind}_{machine}")]
            options = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", "3.13", "--quiet"]
            command = [sys.executable, "-m", "pip", "download", "--dest", str(wheels), *options, *platforms, "-r", str(lock)]
            subprocess.run(command, check=True)
            for wheel in images.tool("wheels").glob("*.whl"):
                if not (wheels / wheel.name).exists():
                    os.link(wheel, wheels / wheel.name)
            (wheels / "ready").touch()
    return wheels
