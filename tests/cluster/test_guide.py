"""The guide on Kubernetes does what it says: its blocks that are marked `cluster` are typed on one, from top to bottom."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.deployment import KIND
from tests.cluster.installation import BUCKET, Installation
from tests.models import flight_model
from tests.support import ROOT, eventually, free_port

PAGE = ROOT / "docs" / "guides" / "kubernetes.md"
BLOCK = re.compile(r"^```console cluster\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
CONTINUED = re.compile(r" \\\n +")
FORWARDED = "port-forward"


class Reader:
    """Somebody who types what the page says, beside a checkout, with a namespace and a store of his own."""

    def __init__(self, installation: Installation, namespace: str, folder: Path) -> None:
        self._node = installation.node
        self._folder = folder
        self._port = free_port()
        self._programs: list[subprocess.Popen[bytes]] = []
        self._said = {
            "--namespace models ": f"--namespace {namespace} ",
            "s3://models-of-us/quarterdeck": shlex.quote(installation.store(BUCKET)),
            "8080:80": f"{self._port}:80",
            "127.0.0.1:8080": f"127.0.0.1:{self._port}",
        }

    def type(self, command: str) -> None:
        """One command, which must end well; a forwarded port stays open."""
        for there, here in self._said.items():
            command = command.replace(there, here)
        path = f"{self._node.kubernetes}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        environ = {**os.environ, "PATH": path, "KUBECONFIG": str(self._node.layout.kubeconfig), "NO_COLOR": "1"}
        if FORWARDED in command:
            self._programs.append(subprocess.Popen(["bash", "-c", f"exec {command}"], env=environ, stdout=subprocess.DEVNULL))
            return
        if command.startswith("curl "):
            # The port is open a moment after it was asked for.
            command = command.replace("curl ", "curl --fail --silent --retry-connrefused --retry 20 --retry-delay 1 ", 1)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"

    def close(self) -> None:
        """Close forwarded ports."""
        for program in self._programs:
            program.terminate()
            program.wait()


@pytest.fixture
def reader(installation: Installation, namespace: str, tmp_path: Path) -> Iterator[Reader]:
    """In a folder with a package and the checkout's examples; the store has two versions of the model at least."""
    flight_model("compiled").package("late-flights").write(tmp_path / "late-flights")
    for form in ("compiled", "skops"):
        installation.publish(flight_model(form).package("late-flights"))
    for name in ("examples", "charts", "crds"):
        (tmp_path / name).symlink_to(ROOT / name)
    found = Reader(installation, namespace, tmp_path)
    with installation.aws():
        yield found
    found.close()


def commands() -> list[str]:
    """All that is to be typed."""
    blocks = BLOCK.finditer(PAGE.read_text())
    lines = (line for block in blocks for line in CONTINUED.sub(" ", block["text"]).splitlines())
    return [line.removeprefix("$ ") for line in lines]


def test_the_guide_can_be_typed(reader: Reader, installation: Installation, namespace: str) -> None:
    """Every marked command ends well, and what it asked for comes true."""
    for command in commands():
        reader.type(command)
        if " patch modeldeployment " in command or " scale modeldeployment" in command:
            eventually(lambda: settled(installation, namespace), 120, every=0.3)
    assert settled(installation, namespace)


def settled(installation: Installation, namespace: str) -> bool:
    """Whether the deployment is as it is wished now."""
    found = installation.node.get(KIND, "late-flights", namespace)
    spec, status = found["spec"], found["status"]
    wanted = (spec.get("pin") or spec["model"])["version"]
    assert status["observedGeneration"] == found["metadata"]["generation"], status
    assert [(each["version"], each["nodes"]) for each in status["versions"]] == [(wanted, status["nodes"]["wanted"])], status
    return bool(status["nodes"]["ready"] == spec.get("nodes", {}).get("replicas", 1))
