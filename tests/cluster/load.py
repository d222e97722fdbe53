"""Load on a Service from a pod of the cluster, and what it has seen."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.cluster.installation import Installation
from tests.support import eventually

_SCRIPT = Path(__file__).with_name("load_in_pod.py")
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Answered(NamedTuple):
    """Requests answered by one version under one revision with the same values; the times are of sending, in Unix seconds."""

    version: int
    revision: int
    values: str
    requests: int
    first: float
    last: float


@dataclass
class Tally:
    """What became of every request: sent = answered + lost. Latencies are seconds."""

    sent: int = 0
    answered: int = 0
    lost: int = 0
    why: list[str] = field(default_factory=list)
    latency: dict[str, float] = field(default_factory=dict)
    answers: list[Answered] = field(default_factory=list)
    digests: dict[int, list[str]] = field(default_factory=dict)
    """By version; more than one each is a miss."""

    @classmethod
    def read(cls, told: dict[str, Any]) -> Tally:
        """From a line of the load's output."""
        answers = []
        for name, (count, first, last) in told["answers"].items():
            version, revision, values = name.split("/")
            answers.append(Answered(int(version), int(revision), values, int(count), first, last))
        digests = {int(version): found for version, found in told["digests"].items()}
        return cls(told["sent"], told["answered"], told["lost"], told["why"], told["latency"], answers, digests)

    def last_of(self, version: int) -> float:
        """When the last request was sent that this version answered."""
        return max((each.last for each in self.answers if each.version == version), default=0.0)


class Load:
    """A pod that asks a deployment's Service for as long as the block lasts, and never repeats a request.

    Args:
        installation: where the deployment is.
        namespace: the deployment's.
        name: the deployment's.
        kept: connections that are kept open.
        fresh: workers that open a connection for each request.
        rate: requests per second of each.
        seconds: when it ends by itself.
    """

    def __init__(
        self, installation: Installation, namespace: str, name: str, *, kept: int = 6, fresh: int = 2, rate: float = 10.0,
        seconds: float = 1_800.0,
    ) -> None:  # fmt: skip
        self._node, self._namespace = installation.node, namespace
        self._pod = f"load-{secrets.token_hex(3)}"
        self._image = installation.images["node"].name
        url = f"http://{name}.{namespace}.svc/deployments/{name}/predict"
        self._arguments = [url, str(kept), str(fresh), str(rate), str(seconds)]
        self.tally = Tally()
        self._ended = False

    def __enter__(self) -> Self:
        container = {
            "name": "load",
            "image": self._image,
            "imagePullPolicy": "Never",
            "command": ["python", "-u", "-c", _SCRIPT.read_text(), *self._arguments],
            "securityContext": _SECURITY,
            # Enough for its rate, and never what the nodes are short of.
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
        }
        spec = {
            "containers": [container],
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
        }
        metadata = {"name": self._pod, "namespace": self._namespace}
        self._node.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        eventually(lambda: self.so_far().answered > 0, 60, every=0.3)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._ended:
                self.end()
        finally:
            self._node.kubectl("delete", "pod", self._pod, f"--namespace={self._namespace}", "--wait=false")

    def so_far(self) -> Tally:
        """What it has seen up to a second ago."""
        return Tally.read(self._last())

    def end(self) -> Tally:
        """Let it finish what is under way, and read what it has seen; also kept as `tally`."""
        self._node.kubectl("exec", self._pod, f"--namespace={self._namespace}", "--", "python", "-c", "import os; os.kill(1, 15)")
        eventually(lambda: self._last()["end"], 60, every=0.3)
        self.tally, self._ended = Tally.read(self._last()), True
        return self.tally

    def _last(self) -> dict[str, Any]:
        lines = self._node.kubectl("logs", self._pod, f"--namespace={self._namespace}", "--tail=1")
        told: dict[str, Any] = json.loads(lines)
        return told
