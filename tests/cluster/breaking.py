"""Ways to break a deployment: what a person may get wrong in the spec, in the store, in a package or in the cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quarterdeck.build import BuiltPackage
from quarterdeck.manifest import Environment
from quarterdeck.plan import VersionRef
from tests.cluster.deployment import Deployment
from tests.cluster.installation import AUTHORITY, SECRET, Installation
from tests.code_models import code_package, with_code
from tests.models import version_encoding_model

Change = dict[str, Any]
"""Fields of the spec, as `Deployment.apply` takes them."""
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}}
"""What a pod asks for: there must be room for a second one also where others use the machine."""
CALM = "class Model:\n    def predict(self, rows):\n        return [1.0 for _ in rows]\n\ndef load(folder):\n    return Model()\n"
_DIES = "import os\n\ndef load(folder):\n    os._exit(7)\n"
_SLEEPS = "import time\n\ndef load(folder):\n    time.sleep(60)\n"


@dataclass
class Scene:
    """A deployment that serves version 1, and what can be broken around it.

    Attributes:
        versions: the good ones.
        made: objects that a case has made, to be deleted after it: kind and name.
    """

    installation: Installation
    deployment: Deployment
    versions: tuple[VersionRef, ...]
    made: list[tuple[str, str]] = field(default_factory=list)

    def make(self, kind: str, name: str, api: str = "v1", **content: Any) -> None:
        """An object in the deployment's namespace."""
        metadata = {"name": name, "namespace": self.deployment.namespace}
        self.deployment.node.apply({"apiVersion": api, "kind": kind, "metadata": metadata, **content})
        self.made.append((kind, name))

    def store(self, **changed: str) -> Change:
        """The store with these fields changed."""
        return {"store": {**self.good_store, **changed}}

    @property
    def good_store(self) -> dict[str, str]:
        """The store that it was made with."""
        return {"url": self.installation.store(self.installation.bucket), "secret": SECRET, "caConfigMap": AUTHORITY}

    def publish(self, built: BuiltPackage) -> VersionRef:
        """Into the deployment's store."""
        return self.installation.publish(built, self.installation.bucket)

    def blob(self, built: BuiltPackage) -> Any:
        """The file in the S3 server's folder that holds what only this package has: the compiled model."""
        entry = built.manifest.file("trees-0.txt")
        return self.installation.node.layout.folder / "buckets" / self.installation.bucket / "blobs" / "sha256" / entry.sha256


def made_there(deployment: Deployment, built: BuiltPackage) -> BuiltPackage:
    """The package as if it had been built with the interpreter and the libraries of the deployment's pods."""
    libraries = sorted(built.manifest.environment.libraries)
    script = f"from quarterdeck.environment import current; print(current({libraries!r}).model_dump_json())"
    pod = deployment.pods()[0]["metadata"]["name"]
    where = [f"--namespace={deployment.namespace}", "--container=serve"]
    told = deployment.node.kubectl("exec", pod, *where, "--", "python", "-c", script)
    environment = Environment.model_validate_json(told)
    return BuiltPackage(built.manifest.model_copy(update={"environment": environment}), built.files)


class Broken(NamedTuple):
    """One way.

    Attributes:
        change: prepares what is needed besides, and gives the change of the spec.
        code: of the failure that the status then tells.
        words: what its message must name.
    """

    name: str
    change: Callable[[Scene], Change]
    code: str
    words: tuple[str, ...]


def _nodes(**changed: Any) -> Change:
    return {"nodes": {"resources": SMALL, **changed}}


def _second() -> Change:
    return {"model": {"name": "versions", "version": 2}}


def _model(ref: VersionRef, **more: Any) -> Change:
    return {"model": {"name": ref.model, "version": ref.version, **more}}


def _no_bucket(scene: Scene) -> Change:
    return {**_second(), **scene.store(url=scene.installation.store("nowhere-to-be-found"))}


def _wrong_endpoint(scene: Scene) -> Change:
    return {**_second(), **scene.store(url=scene.installation.store(scene.installation.bucket).replace(":7443", ":7444"))}


def _no_version(_: Scene) -> Change:
    return {"model": {"name": "versions", "version": 99}}


def _wrong_digest(scene: Scene) -> Change:
    return {"model": {"name": "versions", "version": 2, "digest": scene.versions[2].digest}}


def _tampered(scene: Scene) -> Change:
    built = version_encoding_model(4, name="tampered")
    ref = scene.publish(built)
    content = bytearray(scene.blob(built).read_bytes())
    content[len(content) // 2] ^= 1
    scene.blob(built).write_bytes(content)
    return _model(ref)


def _missing_blob(scene: Scene) -> Change:
    built = version_encoding_model(5, name="incomplete")
    ref = scene.publish(built)
    scene.blob(built).unlink()
    return _model(ref)


def _golden(scene: Scene) -> Change:
    built = version_encoding_model(6, name="mistaken")
    row = built.manifest.golden[0]
    wrong = row.model_copy(update={"expected": row.expected.model_copy(update={"prediction": 7.0})})
    return _model(scene.publish(BuiltPackage(built.manifest.model_copy(update={"golden": [wrong]}), built.files)))


def _other_library(scene: Scene) -> Change:
    built = made_there(scene.deployment, version_encoding_model(7, form="skops", name="old"))
    made_with = built.manifest.environment
    libraries = {**made_with.libraries, "scikit-learn": "0.24.2"}
    manifest = built.manifest.model_copy(update={"environment": made_with.model_copy(update={"libraries": libraries})})
    return _model(scene.publish(BuiltPackage(manifest, built.files)))


def _missing_variable(scene: Scene) -> Change:
    built = version_encoding_model(8, name="needy")
    needs = built.manifest.environment.model_copy(update={"variables": ["PRICES_ADDRESS"]})
    return _model(scene.publish(BuiltPackage(built.manifest.model_copy(update={"environment": needs}), built.files)))


def _no_trust(scene: Scene) -> Change:
    return _model(scene.publish(made_there(scene.deployment, code_package(CALM, "coded"))))


def _dies(scene: Scene) -> Change:
    return _model(scene.publish(made_there(scene.deployment, with_code(code_package(CALM, "dying"), _DIES))), trust="code")


def _sleeps(scene: Scene) -> Change:
    change = _model(scene.publish(made_there(scene.deployment, with_code(code_package(CALM, "sleeping"), _SLEEPS))), trust="code")
    return {**change, "progressSeconds": 10}


def _no_gpu(_: Scene) -> Change:
    return {"model": {"name": "versions", "version": 2, "accelerator": "cuda"}}


def _bad_keyring(scene: Scene) -> Change:
    scene.make("ConfigMap", "scribbled-keys", data={"keyring.json": "not JSON"})
    return {"keyring": "scribbled-keys"}


def _name_taken(scene: Scene) -> Change:
    scene.make("Service", f"{scene.deployment.name}-challenger", spec={"ports": [{"port": 80}]})
    return {"challenger": {"version": 2}}


def _wrong_keys(scene: Scene) -> Change:
    scene.make("Secret", "wrong-keys", stringData={"access-key-id": "nobody", "secret-access-key": "0" * 32})
    return scene.store(secret="wrong-keys")


def _no_secret(scene: Scene) -> Change:
    return scene.store(secret="never-made")


def _empty_secret(scene: Scene) -> Change:
    scene.make("Secret", "misnamed-keys", stringData={"user": "nobody", "password": "0" * 32})
    return scene.store(secret="misnamed-keys")


def _bad_authority(scene: Scene) -> Change:
    scene.make("ConfigMap", "scribbled-authority", data={"ca.crt": "not a certificate"})
    return scene.store(caConfigMap="scribbled-authority")


def _other_authority(scene: Scene) -> Change:
    other = scene.installation.node.layout.folder / "pki" / "s3.crt"
    scene.make("ConfigMap", "other-authority", data={"ca.crt": other.read_text()})
    return scene.store(caConfigMap="other-authority")


def _no_image(_: Scene) -> Change:
    return _nodes(image="localhost/never-built:1")


def _bad_image(_: Scene) -> Change:
    return _nodes(image="Not An Image")


def _no_pull_secret(_: Scene) -> Change:
    return _nodes(image="localhost/private:1", imagePullSecrets=["registry-keys"])


def _little_memory(_: Scene) -> Change:
    return _nodes(resources={**SMALL, "limits": {"memory": "40Mi"}})


def _no_quota(scene: Scene) -> Change:
    scene.make("ResourceQuota", "narrow", spec={"hard": {"pods": "1"}})
    return _nodes(replicas=2)


def _no_machine(_: Scene) -> Change:
    return _nodes(nodeSelector={"machine": "nobody-has-this"})


def _large(_: Scene) -> Change:
    return _nodes(resources={"requests": {"cpu": "500"}})


def _no_account(_: Scene) -> Change:
    return _nodes(serviceAccount="never-made")


WAYS = (
    Broken("no such bucket", _no_bucket, "no-such-bucket", ("nowhere-to-be-found", "Create the bucket")),
    Broken("wrong endpoint", _wrong_endpoint, "unreachable", ("7444", "Check that the server runs")),
    Broken("no such version", _no_version, "not-found", ("has no versions v99", "Push the package")),
    Broken("wrong digest in the spec", _wrong_digest, "digest-mismatch", ("versions v2", "does not have the digest")),
    Broken("tampered file", _tampered, "digest-mismatch", ("tampered v1", "trees-0.txt", "Publish the version again")),
    Broken("missing file", _missing_blob, "file-missing", ("incomplete v1", "trees-0.txt", "Publish the version again")),
    Broken("golden row answered otherwise", _golden, "golden-mismatch", ("mistaken v1", "golden row 0")),
    Broken("other library", _other_library, "environment-mismatch", ("old v1", "scikit-learn 0.24.2", "package image")),
    Broken("missing variable", _missing_variable, "variable-missing", ("needy v1", "Set PRICES_ADDRESS")),
    Broken("code without trust", _no_trust, "trust-required", ("coded v1", "trust")),
    Broken("dies at load", _dies, "load-failed", ("dying v1", "status 7")),
    Broken("not ready in time", _sleeps, "progress-deadline", ("sleeping v1", "10 s")),
    Broken("not built for a GPU", _no_gpu, "accelerator-unsupported", ("versions v2", "not built for cuda")),
    Broken("bad keyring", _bad_keyring, "keyring-unreadable", ("scribbled-keys", "JSON")),
    Broken("name taken", _name_taken, "name-taken", ("Service versions-challenger", "remove that object")),
    Broken("wrong keys", _wrong_keys, "wrong-credentials", ("does not accept these credentials", "Secret")),
    Broken("missing Secret", _no_secret, "credentials-missing", ("access-key-id", "Secret")),
    Broken("Secret with other fields", _empty_secret, "credentials-missing", ("access-key-id", "Secret")),
    Broken("bad authority", _bad_authority, "unreachable", ("certificate", "ca.crt", "caConfigMap")),
    Broken("other authority", _other_authority, "unreachable", ("certificate", "ca.crt", "caConfigMap")),
    Broken("image not found", _no_image, "image-not-pulled", ("localhost/never-built:1", "nodes.image")),
    Broken("invalid image name", _bad_image, "image-not-pulled", ("Not An Image", "nodes.image")),
    Broken("missing pull secret", _no_pull_secret, "image-not-pulled", ("localhost/private:1", "registry-keys")),
    Broken("too little memory", _little_memory, "out-of-memory", ("limits.memory",)),
    Broken("quota", _no_quota, "quota-exceeded", ("narrow", "ResourceQuota")),
    Broken("no such machine", _no_machine, "unschedulable", ("nodes.nodeSelector",)),
    Broken("too large", _large, "unschedulable", ("Insufficient cpu", "nodes.resources")),
    Broken("missing service account", _no_account, "service-account-missing", ("never-made", "nodes.serviceAccount")),
)
