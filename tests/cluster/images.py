"""Images without a registry: built by buildah, kept as archives in the cache under the hash of what went into them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster.layout import cache
from tests.cluster.programs import PAUSE
from tests.support import ROOT

NODE, OPERATOR, DEPLOYER = "node", "operator", "deployer"
REGISTRY = "localhost"
_BASE = "localhost/quarterdeck-base:1"


class Recipe(NamedTuple):
    """How one image of ours is made: its Dockerfile, the targets in it, and the folders that its code comes from."""

    dockerfile: str
    target: str
    libraries: str
    folders: tuple[str, ...]


RECIPES = {
    NODE: Recipe("Dockerfile.node", "node", "libraries", ("core", "api_node")),
    OPERATOR: Recipe("Dockerfile.operator", "operator", "operator-libraries", ("core", "operator")),
    DEPLOYER: Recipe("Dockerfile.operator", "deployer", "deployer-libraries", ("core", "deployer", "cli")),
}


def tool(name: str) -> Path:
    """What one of our tools makes and prints as its last line."""
    done = subprocess.run([ROOT / "tools" / name], stdout=subprocess.PIPE, check=True, text=True)
    return Path(done.stdout.splitlines()[-1])


def folder() -> Path:
    """Where archives, and buildah's own storage, are kept."""
    place = cache() / "images"
    place.mkdir(parents=True, exist_ok=True)
    return place


def storage() -> list[str]:
    """Options of buildah that say where it keeps everything."""
    return ["--root", str(folder() / "storage"), "--runroot", str(folder() / "run"), "--storage-driver", "overlay"]


def buildah(*arguments: str, within: Path | None = None) -> None:
    """Run buildah on a storage of our own, so that nothing of the user's is touched.

    Raises:
        RuntimeError: it failed; the end of its output is in the text.
    """
    command = ["buildah", *storage(), *arguments]
    done = subprocess.run(command, cwd=within, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    # Two runs may want the same image at once; the second waits and finds it.
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def archive(image: str, key: str) -> Path:
    """Where the archive of an image made from `key` lies; older archives of the same image are removed."""
    name = image.partition("/")[2].replace(":", "-").replace("/", "-")
    path = folder() / f"{name}.{key}.tar"
    if not path.exists():
        for old in folder().glob(f"{name}.*.tar"):
            old.unlink()
    return path


def digest(*parts: bytes | Path) -> str:
    """A short hash of bytes and of files' contents."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()[:16]


def of_program(image: str, program: Path, name: str) -> Path:
    """The archive of an image that holds one static program and nothing else."""
    dockerfile = f'FROM scratch\nCOPY {name} /{name}\nUSER 65532:65532\nENTRYPOINT ["/{name}"]\n'
    with _locked(name):
        path = archive(image, digest(program, dockerfile.encode()))
        if not path.exists():
            with tempfile.TemporaryDirectory() as context:
                shutil.copy(program, Path(context) / name)
                (Path(context) / "Dockerfile").write_text(dockerfile)
                buildah("bud", "--isolation", "chroot", "--layers=false", "--tag", image, context)
            save(image, path)
    return path


def save(image: str, path: Path) -> None:
    """Write an image as an archive, in place by one rename, and forget it in buildah's storage."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    # Uncompressed: packing and unpacking would take longer than reading the bytes.
    buildah("push", "--quiet", image, f"docker-archive:{fresh}:{image}")
    fresh.rename(path)


def system(kubernetes: Path, pause: Path) -> list[Path]:
    """Archives of the images that the cluster itself needs."""
    return [
        of_program(PAUSE, pause, "pause"),
        of_program("localhost/quarterdeck-coredns:1", kubernetes / "coredns", "coredns"),
        of_program("localhost/quarterdeck-metrics-server:1", kubernetes / "metrics-server", "metrics-server"),
    ]


class Image(NamedTuple):
    """One image of ours: its name with the tag, which is a hash of what it was made from, and where its archive lies."""

    name: str
    archive: Path

    @property
    def tag(self) -> str:
        """The tag alone."""
        return self.name.rpartition(":")[2]


def ours(program: str) -> Image:
    """The image of one of our programs, built from the checkout as it is now, without any network."""
    recipe = RECIPES[program]
    with _locked("ours"):
        key = digest(*_inputs(recipe))
        image = f"{REGISTRY}/quarterdeck-{program}:{key}"
        path = archive(f"{REGISTRY}/quarterdeck-{program}", key)
        if not path.exists():
            told = {"BASE": base(), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_INDEX_URL": ""}
            arguments = [part for name, value in told.items() for part in ("--build-arg", f"{name}={value}")]
            arguments += ["--volume", f"{tool('wheels')}:/wheels:ro", "--file", str(ROOT / recipe.dockerfile)]
            # A change of code installs no library anew: their stage has a name of its own, so it stays when the rest is pruned.
            for target, name in ((recipe.libraries, f"{REGISTRY}/{program}-libraries"), (recipe.target, image)):
                buildah("bud", "--isolation", "chroot", "--layers", *arguments, "--target", target, "--tag", name, str(ROOT))
            save(image, path)
            buildah("rmi", image)
            # A build that was killed leaves a container, which would hold on to its layers.
            buildah("rm", "--all")
            buildah("rmi", "--prune")
    return Image(image, path)


def _inputs(recipe: Recipe) -> Iterator[bytes | Path]:
    yield from (ROOT / recipe.dockerfile, ROOT / "tools" / "base-image", ROOT / "pyproject.toml")
    yield from sorted((ROOT / "requirements").glob("image-*.lock"))
    for folder_name in ("tools/image", *recipe.folders):
        for path in sorted((ROOT / folder_name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(ROOT)).encode()
                yield path


def base() -> str:
    """The base image in buildah's storage, made from Debian's packages: there is no registry to ask."""
    rootfs = tool("base-image")
    known = rootfs.parent / "imported"
    if not known.exists():
        with tempfile.TemporaryDirectory() as context:
            (Path(context) / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
            shutil.copy(rootfs, context)
            buildah("bud", "--isolation", "chroot", "--layers=false", "--tag", _BASE, context)
        known.touch()
    return _BASE
