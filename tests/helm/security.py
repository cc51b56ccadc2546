"""The Pod Security Standard `restricted`, as far as a manifest can break it."""

from collections.abc import Iterator
from typing import Any

from tests.helm.chart import containers

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")


def violations(spec: dict[str, Any]) -> Iterator[str]:
    """Each control of `restricted`, and of `baseline` in it, that a pod's spec breaks."""
    pod = spec.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec["volumes"]:
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    if pod.get("sysctls"):
        yield "sysctls"
    for container in containers(spec):
        context = container.get("securityContext", {})
        name = container["name"]
        both = pod | context
        if context.get("privileged"):
            yield f"{name} is privileged"
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may escalate"
        if "ALL" not in context.get("capabilities", {}).get("drop", []):
            yield f"{name} keeps capabilities"
        if set(context.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name} adds capabilities"
        if context.get("procMount", "Default") != "Default":
            yield f"{name} sees all of /proc"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name} takes a port of the host"
        if both.get("runAsNonRoot") is not True:
            yield f"{name} may be root"
        if both.get("runAsUser") == 0:
            yield f"{name} is root"
        if both.get("seccompProfile", {}).get("type") not in SECCOMP:
            yield f"{name} has no seccomp profile"
