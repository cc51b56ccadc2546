"""What a release requires of the cluster, from the chart's values and the command's flags."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kubectl_catsdogs.api.resources import requested
from kubectl_catsdogs.base.errors import ConfigError
from kubectl_catsdogs.base.objects import Object, dig


@dataclass(frozen=True)
class Requirements:
    """The defaults are those of the chart's values."""

    gpu_resource: str = "nvidia.com/gpu"
    gpus: int = 1
    secret: str = ""
    """Empty: a role of the service account or node is used, or the chart creates a Secret."""
    keys: tuple[str, ...] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    """The Secret's keys, as credentials.keys names them."""
    volume_type: str = "pvc"
    storage_class: str = ""
    """Empty: the cluster's default."""
    claim: str = ""
    """An existing one, volume.existingClaim."""
    tolerations: list[Object] = field(
        default_factory=lambda: [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    """Those of pods with GPUs, and those of all pods."""
    node_selector: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=lambda: {"cpu": "2", "memory": "4Gi"})
    workers: int = 1
    network_policy: bool = False
    """Whether the pods' traffic is limited even for a single worker, networkPolicy.enabled."""
    any_ingress: bool = False
    """Whether anybody may connect to the pods, networkPolicy.allowAnyIngress."""

    @property
    def pod(self) -> Object:
        """The chart's pod, as far as it matters to the scheduler."""
        limits = {self.gpu_resource: str(self.gpus)} if self.gpus else {}
        container = {"resources": {"requests": self.requests, "limits": limits}}
        return {
            "spec": {"containers": [container], "tolerations": self.tolerations, "nodeSelector": self.node_selector}
        }

    @property
    def created(self) -> list[str]:
        """What helm creates, plurals; it keeps the release in a Secret."""
        claims = ["persistentvolumeclaims"] if self.volume_type == "pvc" and not self.claim else []
        services = ["services"] if self.workers > 1 else []
        several = self.workers > 1 and not self.any_ingress
        policies = ["networkpolicies"] if several or self.network_policy else []
        return ["jobs", "serviceaccounts", "secrets", *claims, *services, *policies]


def requirements_of(values: Path | None, **flags: Any) -> Requirements:
    """Return what the chart's values require. Flags that are not None win over them. Raises ConfigError."""
    try:
        given = yaml.safe_load(values.read_text()) if values else None
        if not isinstance(given, dict | None):
            raise ValueError("not a mapping")
        required = _merged(given or {}, flags)
        # Raises ValueError for a quantity that is not one.
        requested(required.pod)
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise ConfigError(f"{values}: not the values of the chart: {error}") from error
    return required


def _merged(given: Object, flags: dict[str, Any]) -> Requirements:
    defaults = Requirements()
    gpus = int(dig(given, "gpu", "count", default=defaults.gpus) if flags.get("gpus") is None else flags["gpus"])
    tolerations = dig(given, "gpu", "tolerations", default=defaults.tolerations) if gpus else []
    requests = dig(given, "resources", "requests", default={})
    keys = dig(given, "credentials", "keys", default={})
    names = [keys.get(key) for key in ("accessKeyId", "secretAccessKey", "sessionToken")]
    values = {
        "gpu_resource": dig(given, "gpu", "resource"),
        "secret": dig(given, "credentials", "existingSecret"),
        "keys": tuple(name or key for name, key in zip(names, (*defaults.keys, ""), strict=True) if name or key),
        "volume_type": dig(given, "volume", "type"),
        "storage_class": dig(given, "volume", "storageClass"),
        "claim": dig(given, "volume", "existingClaim"),
        "node_selector": dig(given, "nodeSelector"),
        "workers": dig(given, "workers"),
        "network_policy": dig(given, "networkPolicy", "enabled"),
        "any_ingress": dig(given, "networkPolicy", "allowAnyIngress"),
        "requests": defaults.requests | {name: str(value) for name, value in requests.items()},
    }
    known = {
        name: value for name, value in (values | {k: v for k, v in flags.items() if v is not None}).items() if value
    }
    shared = dig(given, "volume", "accessMode") == "ReadWriteMany"
    if known.get("workers", 1) > 1 and known.get("volume_type", "pvc") == "pvc" and not shared:
        # As in the chart: each pod gets a claim of its own, which helm does not create.
        known["volume_type"] = "ephemeral"
    return Requirements(**known | {"gpus": gpus, "tolerations": [*tolerations, *dig(given, "tolerations", default=[])]})
