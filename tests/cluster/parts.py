"""What each part of a cluster is told: who it is, where the others are, and what not to touch."""

import json
import secrets
import subprocess
from pathlib import Path

import yaml

from tests.cluster import binaries
from tests.cluster.binaries import installed
from tests.cluster.sandbox import BRIDGE, CGROUP, INSIDE, SUBNET

NODE = "catsdogs-test"
PAUSE = "catsdogs-pause:test"
DOMAIN = "cluster.local"
CNI = Path("/usr/lib/cni")
SOCKET = "/run/containerd/containerd.sock"

USERS = {
    "admin": ("admin", "system:masters"),
    "controllers": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
}
"""Kubeconfig → user and group. Each has a token of its own, and what RBAC gives it."""


def write_identities(folder: Path) -> None:
    """Tokens of the users, a key pair for service accounts, and the API server's certificate for kubelets.

    That one vouches for itself: the kubelet trusts this certificate and no authority.
    """
    tokens = [f'{secrets.token_hex(16)},{user},{name},"{group}"' for name, (user, group) in USERS.items()]
    (folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
    key, public = folder / "accounts.key", folder / "accounts.pub"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    client: list[str | Path] = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
        "/O=system:masters/CN=kube-apiserver", "-addext", "extendedKeyUsage=clientAuth",
    ]  # fmt: skip
    files: list[str | Path] = ["-keyout", folder / "client.key", "-out", folder / "client.crt"]
    subprocess.run([*client, *files], check=True, capture_output=True)


def write_kubeconfig(folder: Path, name: str) -> None:
    lines = (folder / "tokens.csv").read_text().splitlines()
    token = next(line.split(",")[0] for line in lines if line.split(",")[2] == name)
    server = {
        "server": f"https://{INSIDE}:6443",
        "certificate-authority": str(folder / "certificates/apiserver.crt"),
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        "current-context": "test",
    }
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))


def write_settings(folder: Path) -> None:
    (folder / "resolv.conf").write_text("")
    network = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": SUBNET, "rangeStart": SUBNET.replace(".0/24", ".10"), "gateway": INSIDE}]],
                },
            }
        ],
    }
    (folder / "network").mkdir()
    (folder / "network/pods.conflist").write_text(json.dumps(network))
    (folder / "containerd.toml").write_text(
        f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# Not every root may make a process less likely to be killed than itself: that takes CAP_SYS_RESOURCE.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI}"
conf_dir = "{folder}/network"
"""
    )
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(folder / "client.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "makeIPTablesUtilChains": False,
        # The machine's disk and images are not this cluster's business.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "clusterDNS": [INSIDE],
        "clusterDomain": DOMAIN,
        "resolvConf": str(folder / "resolv.conf"),
        "volumePluginDir": "/var/lib/kubelet/plugins",
    }
    (folder / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))
    # Of any other name it knows nothing, and says so at once.
    (folder / "Corefile").write_text(
        f"""{DOMAIN} {{
    bind {INSIDE}
    errors
    kubernetes {{
        kubeconfig {folder}/admin test
    }}
}}
"""
    )


def command(name: str, programs: Path, folder: Path) -> list[str | Path]:
    match name:
        case "etcd":
            return [installed("etcd", "etcd-server"), "--data-dir=/var/lib/etcd"]
        case "containerd":
            return [installed("containerd", "containerd"), "--config", folder / "containerd.toml"]
        case "kube-apiserver":
            return [
                programs / name,
                f"--bind-address={INSIDE}",
                f"--advertise-address={INSIDE}",
                f"--cert-dir={folder}/certificates",
                "--etcd-servers=http://127.0.0.1:2379",
                f"--token-auth-file={folder}/tokens.csv",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--service-account-issuer=https://kubernetes.test",
                f"--service-account-signing-key-file={folder}/accounts.key",
                f"--service-account-key-file={folder}/accounts.pub",
                "--service-cluster-ip-range=198.18.78.0/24",
                f"--kubelet-client-certificate={folder}/client.crt",
                f"--kubelet-client-key={folder}/client.key",
                "--kubelet-preferred-address-types=InternalIP",
            ]
        case "kube-controller-manager":
            return [
                programs / name,
                f"--kubeconfig={folder}/controllers",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={folder}/accounts.key",
                f"--root-ca-file={folder}/certificates/apiserver.crt",
                "--leader-elect=false",
                "--secure-port=0",
            ]
        case "kube-scheduler":
            return [programs / name, f"--kubeconfig={folder}/scheduler", "--leader-elect=false", "--secure-port=0"]
        case "kubelet":
            return [
                programs / name,
                f"--config={folder}/kubelet.yaml",
                f"--kubeconfig={folder}/kubelet",
                f"--hostname-override={NODE}",
                f"--node-ip={INSIDE}",
            ]
        case "coredns":
            return [binaries.coredns(), "-conf", folder / "Corefile"]
        case "kube-router":
            return [
                binaries.kube_router(),
                f"--kubeconfig={folder}/admin",
                f"--hostname-override={NODE}",
                # The pods' network is CNI's, and there are no Services with an address.
                "--run-router=false",
                "--run-service-proxy=false",
                "--enable-cni=false",
                "--run-firewall",
                "--health-port=0",
                "--service-cluster-ip-range=198.18.78.0/24",
            ]
    raise AssertionError(name)
