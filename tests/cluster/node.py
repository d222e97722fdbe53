"""Starts and ends a one-node Kubernetes made of programs, without any container engine around it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from quarterdeck_cli import processes
from tests.cluster import images, pki, programs
from tests.cluster.images import tool
from tests.cluster.layout import Layout
from tests.support import ROOT, eventually

_CGROUPS = Path("/sys/fs/cgroup")
_MANIFESTS = Path(__file__).parent / "manifests"
_START_SECONDS = 120.0
S3_PORT = 7443
S3_ACCOUNT = "quarterdeck"


class Node:
    """One node: the whole of Kubernetes in namespaces of its own, and an S3 server beside it.

    Its first process is known by pid and start time; when that ends, everything of the node ends.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.kubernetes = tool("kubernetes/build")

    @property
    def _first(self) -> processes.Process | None:
        try:
            pid, started = json.loads((self.layout.folder / "process.json").read_text())
        except (OSError, ValueError):
            return None
        return processes.Process(pid, started)

    @property
    def running(self) -> bool:
        """Whether the node's first process lives."""
        return self._first is not None and processes.alive(self._first)

    def start(self) -> None:
        """Start what is not running yet; after this the API server, DNS and metrics answer."""
        if not self.running:
            self.stop()
            self._prepare()
            self._boot()
            self.load_images(images.system(self.kubernetes, tool("pause/build")))
        addons = (_MANIFESTS / "addons.yaml").read_text().replace("DNS_ADDRESS", self.layout.dns)
        eventually(lambda: self.kubectl("apply", "--filename=-", given=addons), _START_SECONDS, every=0.3)
        self.kubectl("wait", "--for=condition=Ready", f"node/{self.layout.name}", "--timeout=60s")

    def wait_for_addons(self) -> None:
        """Wait until the cluster's DNS and metrics answer."""
        for name in ("coredns", "metrics-server"):
            self.rolled_out(name, "kube-system")
        self.kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s")

    def stop(self) -> None:
        """End the node and remove every trace of it: processes, devices, control groups, folder. Harmless where there is none."""
        if self._first is not None and processes.end([self._first], 30):
            raise RuntimeError(f"the node's first process {self._first.pid} did not end")
        for hierarchy in _hierarchies():
            eventually(partial(_remove_cgroup, hierarchy / self.layout.cgroup), 30)
        subprocess.run(["ip", "link", "delete", self.layout.device], capture_output=True, check=False)
        shutil.rmtree(self.layout.folder, ignore_errors=True)
        if self.layout.folder.exists():
            raise RuntimeError(f"something holds {self.layout.folder}")

    def kubectl(self, *arguments: str, given: str = "", seconds: float = 180) -> str:
        """What kubectl prints, as the administrator.

        Raises:
            RuntimeError: it failed; its own words are in the text.
        """
        command = [str(self.kubernetes / "kubectl"), f"--kubeconfig={self.layout.kubeconfig}", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=seconds)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout or "done"

    def rolled_out(self, deployment: str, namespace: str, seconds: int = 120) -> None:
        """Wait until a Deployment's pods are all new and ready.

        Raises:
            RuntimeError: they are not within `seconds`; the pods' own words are in the text.
        """
        try:
            self.kubectl(f"--namespace={namespace}", "rollout", "status", f"deployment/{deployment}", f"--timeout={seconds}s")
        except RuntimeError as error:
            logs = self.kubectl(f"--namespace={namespace}", "logs", f"deployment/{deployment}", "--all-containers", "--tail=30")
            raise RuntimeError(f"{error}\n{logs}") from None

    def apply(self, *objects: dict[str, Any]) -> None:
        """`kubectl apply` of these objects."""
        self.kubectl("apply", "--filename=-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, kind: str, name: str = "", namespace: str = "default", **selector: str) -> Any:
        """An object, or without a name the list of those with these labels."""
        labels = ",".join(f"{label}={value}" for label, value in selector.items())
        which = [name] if name else [f"--selector={labels}"]
        found = json.loads(self.kubectl("get", kind, *which, f"--namespace={namespace}", "--output=json"))
        return found if name else found["items"]

    def volumes(self, count: int = 3) -> None:
        """Volumes for whoever claims one; no storage class makes them here."""
        for number in range(count):
            place = self.layout.folder / "volumes" / str(number)
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)
            spec = {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(place)}}
            metadata = {"name": f"volume-{number}"}
            self.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})

    @property
    def endpoint(self) -> str:
        """The S3 server as pods see it."""
        return f"https://{self.layout.node}:{S3_PORT}"

    @property
    def endpoint_here(self) -> str:
        """The S3 server as this machine sees it."""
        return self.endpoint

    def bucket(self, name: str) -> None:
        """Make a bucket where there is none."""
        (self.layout.folder / "buckets" / name).mkdir(exist_ok=True)

    @property
    def authority(self) -> Path:
        """The certificate that signed those of the API server and the S3 server."""
        return self.layout.folder / "pki" / "ca.crt"

    def s3_account(self) -> tuple[str, str]:
        """Access key and secret key of the S3 server's account."""
        return S3_ACCOUNT, (self.layout.folder / "s3-secret").read_text()

    def load_images(self, archives: Sequence[Path]) -> None:
        """Hand image archives to containerd; those that it has already take no time."""
        for archive in archives:
            self.inside("ctr", f"--address={self.layout.socket}", "--namespace=k8s.io", "images", "import", str(archive))

    def inside(self, *command: str) -> str:
        """What a command prints in the node's network and among its mounts."""
        assert self._first is not None
        enter = ["nsenter", f"--target={self._first.pid}", "--mount", "--net", "--", *command]
        done = subprocess.run(enter, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
        return done.stdout

    def _prepare(self) -> None:
        folder = self.layout.folder
        for name in ("log", "buckets"):
            (folder / name).mkdir(parents=True)
        pki.write_all(self.layout)
        secret = folder / "s3-secret"
        secret.touch(mode=0o600)
        secret.write_text(secrets.token_hex(16))
        programs.write(self.layout, self.kubernetes, self._s3_command())
        for hierarchy in _hierarchies():
            _make_cgroup(hierarchy / self.layout.cgroup)

    def _s3_command(self) -> list[str]:
        folder = self.layout.folder
        options = ["--port", f"0.0.0.0:{S3_PORT}", "--health", "/health", "--keep-alive", "--quiet"]
        options += ["--cert", f"{folder}/pki/s3.crt", "--key", f"{folder}/pki/s3.key"]
        return [str(tool("s3server/build")), *options, "posix", str(folder / "buckets")]

    def _boot(self) -> None:
        folder = self.layout.folder
        # --kill-child ties the first process inside to this one outside, which has a pid that we can see.
        spaces = ["--net", "--mount", "--pid", "--ipc", "--mount-proc", "--propagation=private"]
        apart = ["unshare", *spaces, "--fork", "--kill-child"]
        # The secret goes by environment: command lines are for everybody to read.
        secret = {"ROOT_ACCESS_KEY_ID": S3_ACCOUNT, "ROOT_SECRET_ACCESS_KEY": (folder / "s3-secret").read_text()}
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}
        with (folder / "log" / "boot").open("wb") as log:
            process = subprocess.Popen(
                [*apart, sys.executable, "-m", "tests.cluster.boot", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**path, **secret},
                cwd=folder,
                start_new_session=True,
            )
        first = processes.identify(process.pid)
        assert first is not None
        (folder / "process.json").write_text(json.dumps(first))
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout as ready:
            if ready.readline() != b"ready\n":
                raise RuntimeError(f"the node did not start: {(folder / 'log' / 'boot').read_text()}")
            self._lay_cable(process.pid)
        # It outlives us on purpose; without this Python would complain that nobody waited.
        process.returncode = 0

    def _lay_cable(self, pid: int) -> None:
        """Connect this machine and the node's network by a pair of devices, and nothing else with it."""
        layout = self.layout
        peer = ["peer", "name", "eth0", "netns", str(pid)]
        inside = ["nsenter", f"--target={pid}", "--net", "--"]
        for command in (
            ["ip", "link", "add", layout.device, "type", "veth", *peer],
            ["ip", "address", "add", f"{layout.outside}/30", "dev", layout.device],
            ["ip", "link", "set", layout.device, "up"],
            [*inside, "ip", "address", "add", f"{layout.node}/30", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
            ["ip", "route", "add", layout.network, "via", layout.node, "dev", layout.device],
        ):
            subprocess.run(command, check=True)


def _hierarchies() -> list[Path]:
    """Where control groups are made: one place (version 2), or one for each controller (version 1)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS]
    return [place for place in _CGROUPS.iterdir() if place.is_dir() and not place.is_symlink()]


def _make_cgroup(place: Path) -> None:
    """Make a control group whose processes get most of the processors' time when they want it."""
    place.mkdir(exist_ok=True)
    # With the usual weight all pods together would get as much as one process of whatever else runs on this machine.
    for name, most in (("cpu.shares", 16_384), ("cpu.weight", 1_600)):
        if (place / name).exists():
            (place / name).write_text(str(most))


def _remove_cgroup(place: Path) -> bool:
    """Remove a control group and all below it; False while something in it is still dying."""
    for below, _, _ in os.walk(place, topdown=False):
        try:
            os.rmdir(below)
        except OSError:
            return False
    return True
