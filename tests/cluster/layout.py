"""Where a cluster of the fixture lives: its folder, and its addresses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Name = Literal["try", "test"]
"""`try` is the one of `make cluster-up`, `test` the one of the tests; both may run at once."""

# 198.18.0.0/15 is set aside for tests of network devices, so no network that this machine can reach has these addresses.
_SECOND_BYTE: dict[Name, int] = {"try": 18, "test": 19}


def cache() -> Path:
    """Quarterdeck's folder among the user's caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quarterdeck"


@dataclass(frozen=True)
class Layout:
    """Names, paths and addresses of one cluster. All that it leaves on the disk lies in `folder`."""

    name: Name
    folder: Path

    @classmethod
    def of(cls, name: Name) -> Layout:
        """The layout in its usual place, outside the checkout."""
        return cls(name, cache() / "cluster" / name)

    def address(self, third: int, fourth: int) -> str:
        """An address of this cluster's own network."""
        return f"198.{_SECOND_BYTE[self.name]}.{third}.{fourth}"

    @property
    def outside(self) -> str:
        """This machine's address as pods see it, for programs that tests run beside the cluster."""
        return self.address(0, 1)

    @property
    def node(self) -> str:
        """The node's address as this machine and pods see it; the API server listens on its port 6443."""
        return self.address(0, 2)

    @property
    def gateway(self) -> str:
        """What pods take for their router."""
        return self.address(1, 1)

    @property
    def pods(self) -> str:
        """The pods' addresses."""
        return f"{self.address(1, 0)}/24"

    @property
    def services(self) -> str:
        """The Services' addresses."""
        return f"{self.address(128, 0)}/20"

    @property
    def dns(self) -> str:
        """The Service of the cluster's DNS."""
        return self.address(128, 10)

    @property
    def network(self) -> str:
        """All of them together."""
        return f"{self.address(0, 0)}/16"

    @property
    def device(self) -> str:
        """This machine's end of the cable to the node; at most 15 characters."""
        return f"quarterdeck-{self.name[:3]}"

    @property
    def cgroup(self) -> str:
        """The control group under which all pods lie."""
        return f"quarterdeck-{self.name}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's way in."""
        return self.folder / "pki" / "admin.conf"

    @property
    def socket(self) -> str:
        """containerd's socket, as processes inside the cluster's namespaces see it."""
        return "/run/containerd/containerd.sock"
