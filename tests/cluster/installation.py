"""Quarterdeck on a cluster: images, chart, store and namespaces, as a user would set them up."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quarterdeck.build import BuiltPackage
from quarterdeck.plan import VersionRef
from quarterdeck.storage import open_storage
from tests.cluster import images
from tests.cluster.node import Node
from tests.support import ROOT

CHART = ROOT / "charts" / "quarterdeck"
RELEASE = "quarterdeck"
NAMESPACE = "quarterdeck"
SECRET = "store-keys"
AUTHORITY = "store-authority"
BUCKET = "models"
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "latest"}


class Installation:
    """The chart's release on a node, and the store that it is told of."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.images: dict[str, images.Image] = {}
        self.bucket = BUCKET

    def install(self, namespaces: Sequence[str] = ()) -> None:
        """Build and load what is missing, then install the chart, or upgrade it to the checkout as it is now.

        Args:
            namespaces: where the deployer writes ModelDeployments, beside those where it does so already.
        """
        self.images = {program: images.ours(program) for program in images.RECIPES}
        self.node.load_images([image.archive for image in self.images.values()])
        self.node.volumes()
        self.namespace(NAMESPACE)
        self.node.bucket(BUCKET)
        values: dict[str, Any] = {
            "images": {"registry": images.REGISTRY, "pullPolicy": "Never"},
            "store": {"url": self.store(), "secret": SECRET, "caConfigMap": AUTHORITY},
            "metrics": {"podMonitor": False},
        }
        for program, image in self.images.items():
            values[program] = {"image": {"repository": f"quarterdeck-{program}", "tag": image.tag}}
        self.release(self._deploying_to(values, [*self._deployed_to(), *namespaces]))

    def deploy_to(self, namespaces: Sequence[str]) -> None:
        """Let the deployer write ModelDeployments in these namespaces, which are made, beside those where it does already."""
        there = self._deployed_to()
        if not set(namespaces) <= set(there):
            self.release(self._deploying_to(self.values(), [*there, *namespaces]))

    def _deployed_to(self) -> list[str]:
        if not json.loads(self.helm("list", f"--filter=^{RELEASE}$", "--output=json")):
            return []
        return list(self.values().get("deployer", {}).get("kubernetes", {}).get("namespaces", []))

    def _deploying_to(self, values: dict[str, Any], namespaces: Sequence[str]) -> dict[str, Any]:
        named = [self.namespace(name) for name in dict.fromkeys(namespaces)]
        return {**values, "deployer": {**values["deployer"], "kubernetes": {"namespaces": named}}}

    def release(self, values: dict[str, Any], chart: Path = CHART) -> None:
        """Install a chart, or upgrade the release to it, and wait until operator and deployer run."""
        self.helm("upgrade", RELEASE, str(chart), "--install", "--values=-", given=values)
        self.wait()

    def wait(self) -> None:
        """Wait until operator and deployer run as the release says."""
        for program in ("operator", "deployer"):
            self.node.rolled_out(f"{RELEASE}-{program}", NAMESPACE)

    def uninstall(self) -> None:
        """`helm uninstall`, whether it is there or not; its pods are gone after this."""
        self.helm("uninstall", RELEASE, "--wait", "--ignore-not-found")

    def values(self) -> dict[str, Any]:
        """What the release was installed with."""
        found: dict[str, Any] = json.loads(self.helm("get", "values", RELEASE, "--output=json"))
        return found

    def adopt(self) -> None:
        """Take what is installed as it is: nothing is built, and nobody else's run is disturbed by an upgrade."""
        operator = self.node.get("deployment", f"{RELEASE}-operator", NAMESPACE)
        (container,) = operator["spec"]["template"]["spec"]["containers"]
        (name,) = (each["value"] for each in container["env"] if each["name"] == "QUARTERDECK_NODE_IMAGE")
        self.images = {images.NODE: images.Image(name, images.folder())}

    def namespace(self, name: str) -> str:
        """A namespace in which Pod Security "restricted" is enforced, with the store's credentials; gives back its name."""
        self.node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _RESTRICTED}})
        access, secret = self.node.s3_account()
        keys = {"access-key-id": access, "secret-access-key": secret}
        about = {"namespace": name}
        self.node.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, **about}, "stringData": keys},
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": AUTHORITY, **about},
                "data": {"ca.crt": self.node.authority.read_text()},
            },
        )
        return name

    def fresh_bucket(self) -> str:
        """Make an empty bucket, which is the tests' from now on; gives back its name."""
        self.bucket = f"models-{secrets.token_hex(4)}"
        self.node.bucket(self.bucket)
        return self.bucket

    def store(self, bucket: str = BUCKET) -> str:
        """The store's URL as pods see it; on a node of ours this machine does too."""
        return f"s3://{bucket}/?endpoint={self.node.endpoint}"

    def publish(self, built: BuiltPackage, bucket: str = BUCKET) -> VersionRef:
        """Push a package into the store, as the next version of its model."""
        with self.aws():
            return built.push(open_storage(f"s3://{bucket}/?endpoint={self.node.endpoint_here}"))

    @contextmanager
    def aws(self) -> Iterator[None]:
        """Within the block this process's own AWS settings lead to the store."""
        access, secret = self.node.s3_account()
        told = {
            "AWS_ACCESS_KEY_ID": access,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_CA_BUNDLE": str(self.node.authority),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_REGION": "us-east-1",
        }
        before = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        for name in before:
            del os.environ[name]
        os.environ.update(told)
        try:
            yield
        finally:
            for name in told:
                os.environ.pop(name, None)
            os.environ.update(before)

    def helm(self, *arguments: str, given: object = None, namespace: str = NAMESPACE) -> str:
        """What helm prints of releases in `namespace`; its own folders lie in the cluster's.

        Raises:
            RuntimeError: it failed; its own words are in the text.
        """
        layout = self.node.layout
        own = {f"HELM_{kind}_HOME": str(layout.folder / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        where = [f"--namespace={namespace}", f"--kubeconfig={layout.kubeconfig}"]
        command = [str(self.node.kubernetes / "helm"), *arguments, *where]
        done = subprocess.run(
            command, input=json.dumps(given), capture_output=True, text=True, check=False, env={**os.environ, **own}
        )
        if done.returncode:
            raise RuntimeError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout
