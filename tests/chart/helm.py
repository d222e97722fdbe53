"""Helm as a person uses it: rendering the chart, and installing it on a server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.apiserver import ApiServer, programs
from tests.support import ROOT

CHART = ROOT / "charts" / "quarterdeck"
VALUES = Path(__file__).parent / "values"
FILES = sorted(path.stem for path in VALUES.glob("*.yaml"))
POD_MONITORS = "monitoring.coreos.com/v1/PodMonitor"
RELEASE, NAMESPACE = "quarterdeck", "qd"
Object = dict[str, Any]


def helm(*words: str, server: ApiServer | None = None) -> subprocess.CompletedProcess[str]:
    """A finished helm, whether it succeeded or not; with `server`, on that one."""
    home = str(server.folder if server else tempfile.gettempdir())
    environment = {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(server.kubeconfig) if server else os.devnull}
    return subprocess.run([programs() / "helm", *words], capture_output=True, text=True, check=False, env=environment)


@cache
def rendered(values: str, *words: str) -> str:
    """What `helm template` prints for a file of tests/chart/values/, on a cluster that knows PodMonitors."""
    command = ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(VALUES / f"{values}.yaml")]
    # helm knows no cluster here, and takes itself for one of long ago.
    done = helm(*command, "--kube-version", "1.36.0", "--api-versions", POD_MONITORS, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(values: str, *words: str) -> list[Object]:
    """The rendered objects."""
    return [document for document in yaml.safe_load_all(rendered(values, *words)) if document]


def of_kind(kind: str, values: str, *words: str) -> list[Object]:
    """The rendered objects of one kind."""
    return [one for one in objects(values, *words) if one["kind"] == kind]


def containers(values: str) -> Iterator[tuple[Object, Object]]:
    """Each Deployment with its one container."""
    for one in of_kind("Deployment", values):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        yield one, container
