"""The node's programs: their command lines and configuration files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.layout import Layout

PAUSE = "localhost/quarterdeck-pause:1"
"""The image that holds a pod's namespaces."""


@dataclass(frozen=True)
class Program:
    """One program of the node. It is started when something listens on the local port `after`; 0: at once."""

    name: str
    command: list[str]
    after: int = 0


def write(layout: Layout, kubernetes: Path, s3_command: list[str]) -> None:
    """Write every configuration file, and programs.json for the node's first process.

    Args:
        layout: the cluster's.
        kubernetes: the folder with the programs of Kubernetes.
        s3_command: the S3 server's command line.
    """
    _write_containerd(layout)
    _write_kubelet(layout)
    programs = [
        Program("containerd", ["containerd", "--config", str(layout.folder / "containerd.toml")]),
        Program("s3", s3_command),
        *_control_plane(layout, kubernetes),
        *_workers(layout, kubernetes),
    ]
    (layout.folder / "programs.json").write_text(json.dumps([asdict(program) for program in programs]))


def _control_plane(layout: Layout, kubernetes: Path) -> list[Program]:
    pki = layout.folder / "pki"
    etcd = ["--data-dir", str(layout.folder / "etcd"), "--unsafe-no-fsync", "--log-level=warn"]
    for kind, port in (("client", 2379), ("peer", 2380)):
        etcd.append(f"--listen-{kind}-urls=http://127.0.0.1:{port}")
    etcd.append("--advertise-client-urls=http://127.0.0.1:2379")
    manager = [
        f"--kubeconfig={pki}/controller-manager.conf",
        f"--authentication-kubeconfig={pki}/controller-manager.conf",
        f"--authorization-kubeconfig={pki}/controller-manager.conf",
        f"--service-account-private-key-file={pki}/accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials",
        "--leader-elect=false",
        # The default of 15 s makes tests of autoscaling three times as long and shows nothing more.
        "--horizontal-pod-autoscaler-sync-period=5s",
    ]
    scheduler = [
        f"--kubeconfig={pki}/scheduler.conf",
        f"--authentication-kubeconfig={pki}/scheduler.conf",
        f"--authorization-kubeconfig={pki}/scheduler.conf",
        "--leader-elect=false",
    ]
    return [
        Program("etcd", [str(kubernetes / "etcd"), *etcd]),
        Program("apiserver", [str(kubernetes / "kube-apiserver"), *_api_server_flags(layout)], after=2379),
        Program("controller-manager", [str(kubernetes / "kube-controller-manager"), *manager], after=6443),
        Program("scheduler", [str(kubernetes / "kube-scheduler"), *scheduler], after=6443),
    ]


def _api_server_flags(layout: Layout) -> list[str]:
    pki = layout.folder / "pki"
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--service-cluster-ip-range={layout.services}",
        f"--advertise-address={layout.node}",
        "--secure-port=6443",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-account-key-file={pki}/accounts.pub",
        f"--service-account-signing-key-file={pki}/accounts.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # The kubelet's own address, because nothing resolves the node's name.
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        # The front proxy, by which the metrics API is asked, wants an authority of its own.
        f"--requestheader-client-ca-file={pki}/front-ca.crt",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front.crt",
        f"--proxy-client-key-file={pki}/front.key",
        "--enable-aggregator-routing=true",
    ]


def _workers(layout: Layout, kubernetes: Path) -> list[Program]:
    pki = layout.folder / "pki"
    kubelet = [
        f"--kubeconfig={pki}/kubelet.conf",
        f"--config={layout.folder}/kubelet.yaml",
        f"--hostname-override={layout.name}",
        f"--node-ip={layout.node}",
        f"--root-dir={layout.folder}/kubelet",
    ]
    proxy = [
        f"--kubeconfig={pki}/proxy.conf",
        f"--hostname-override={layout.name}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={layout.pods}",
        # Settings of the whole machine, which a network namespace may not change and a test should not.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    ]
    return [
        Program("kubelet", [str(kubernetes / "kubelet"), *kubelet], after=6443),
        Program("proxy", [str(kubernetes / "kube-proxy"), *proxy], after=6443),
    ]


def _write_containerd(layout: Layout) -> None:
    folder = layout.folder
    (folder / "cni").mkdir()
    # Routed pairs instead of a bridge: an answer between two pods passes the kernel's translation of Service addresses
    # also where bridges are not filtered (br_netfilter).
    network = {
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": layout.pods, "gateway": layout.gateway}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    conflist = {"cniVersion": "1.0.0", "name": "quarterdeck", "plugins": [network]}
    (folder / "cni" / "10-quarterdeck.conflist").write_text(json.dumps(conflist))
    (folder / "containerd.toml").write_text(
        f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{layout.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # A machine may not allow to make processes dearer to the kernel than they are.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""
    )


def _write_kubelet(layout: Layout) -> None:
    pki = layout.folder / "pki"
    (layout.folder / "resolv.conf").write_text("# The cluster's network leads nowhere else, so there is nobody to ask.\n")
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "cgroupsPerQOS": True,
        "clusterDNS": [layout.dns],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        # A disk that is nearly full is no reason to throw models out of a test.
        "evictionHard": {"imagefs.available": "1%", "nodefs.available": "1%", "memory.available": "100Mi"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "podLogsDir": f"{layout.folder}/pod-logs",
        "resolvConf": f"{layout.folder}/resolv.conf",
        "tlsCertFile": f"{pki}/kubelet.crt",
        "tlsPrivateKeyFile": f"{pki}/kubelet.key",
        "volumePluginDir": f"{layout.folder}/volume-plugins",
    }
    (layout.folder / "kubelet.yaml").write_text(yaml.safe_dump(config))
