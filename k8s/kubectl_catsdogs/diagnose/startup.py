"""Why a pod that has a node does not start, and the progress of one that runs. Pure."""

import re

from kubectl_catsdogs.base import chart
from kubectl_catsdogs.base.objects import Object, condition, dig, name_of
from kubectl_catsdogs.diagnose.finding import Finding, Rule, first_rule
from kubectl_catsdogs.diagnose.snapshot import Snapshot
from kubectl_catsdogs.jobs.progress import Progress, bar

PULLS = [
    Rule(
        r"(?i)unauthorized|authentication required|no basic auth|denied|forbidden|\b40[13]\b",
        "the registry denies access",
        "set imagePullSecrets to a Secret for that registry, or correct image.repository",
    ),
    Rule(
        r"(?i)no such host|timeout|timed out|refused|dial tcp|x509|no route|unreachable|TLS",
        "the node cannot reach the registry",
        "correct the registry in image.repository, or check the node's network, proxy and certificates",
    ),
    Rule(
        r"(?i)no match for platform|no matching manifest",
        "the image does not support the node's processor architecture",
        "set nodeSelector (kubernetes.io/arch), or build the image for that architecture",
    ),
    Rule(r"(?i)no space left", "the node's disk is full", "free the node's disk, or choose another with nodeSelector"),
    Rule(
        r"(?i)not found|does not exist|unknown|manifest",
        "the registry has no such image",
        "correct image.repository, image.tag or image.digest, and check that the image was pushed",
    ),
]
"""The runtime's message about a failed pull → what it means."""


def image_pull(snapshot: Snapshot) -> Finding | None:
    reason, message, image = _waiting(snapshot)
    if reason not in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"):
        return None
    # During back-off the state only repeats the image's name.
    pulls = [text for text in snapshot.messages(snapshot.pod, "Failed") if text.startswith("Failed to pull")]
    words = pulls[-1] if pulls else message
    why, step = first_rule(PULLS, words.replace(image, "")) or (
        "",
        "correct image.repository, image.tag or image.digest",
    )
    what = f"the image {image} cannot be pulled" + (f": {why}" if why else "")
    return Finding(
        what, snapshot.pod_place, [f"kubelet: {words}"], [step, "the pod starts by itself once it can be pulled"]
    )


def image_name(snapshot: Snapshot) -> Finding | None:
    reason, message, image = _waiting(snapshot)
    if reason != "InvalidImageName":
        return None
    steps = ["correct image.repository, image.tag or image.digest"]
    return Finding(f"{image} is not a valid image name", snapshot.pod_place, [f"kubelet: {message}"], steps)


def image_absent(snapshot: Snapshot) -> Finding | None:
    reason, message, image = _waiting(snapshot)
    if reason != "ErrImageNeverPull":
        return None
    return Finding(
        f"the image {image} is not on the node, and image.pullPolicy=Never forbids pulling it",
        snapshot.pod_place,
        [f"kubelet: {message}"],
        [f"load it on {_node(snapshot)}, or set image.pullPolicy=IfNotPresent"],
    )


def missing_config(snapshot: Snapshot) -> Finding | None:
    """A Secret or ConfigMap that the environment refers to, or a key in it."""
    reason, message, _ = _waiting(snapshot)
    if reason != "CreateContainerConfigError":
        return None
    starts = "the pod starts by itself once it exists"
    if match := re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) [^/\s]+/(\S+)", message):
        key, kind, name = match.groups()
        steps = [f"add it, or name the Secret's own in credentials.keys; {starts}"]
        if kind == "ConfigMap":
            steps = [f"add it, or correct the value that names it; {starts}"]
        return Finding(f"the {kind} {name} has no key {key}", f"{kind} {name}", [f"kubelet: {message}"], steps)
    if match := re.search(r"(secret|configmap) \"([^\"]+)\" not found", message):
        kind, name = {"secret": "Secret", "configmap": "ConfigMap"}[match[1]], match[2]
        return Finding(
            f"the {kind} {name} does not exist",
            f"{kind} {name}",
            [f"kubelet: {message}"],
            _make(snapshot, kind, name, starts),
        )
    if "runAsNonRoot" in message or "non-root" in message:
        steps = ["leave podSecurityContext.runAsUser at 10001, or use an image whose user is not root"]
        return Finding(
            "it would run as root, which runAsNonRoot forbids", snapshot.pod_place, [f"kubelet: {message}"], steps
        )
    steps = ["correct what the message names"]
    return Finding("the container's configuration is invalid", snapshot.pod_place, [f"kubelet: {message}"], steps)


def _make(snapshot: Snapshot, kind: str, name: str, starts: str) -> list[str]:
    """Return how to create a Secret with the keys that the pod reads from it, or a ConfigMap."""
    if kind == "ConfigMap":
        return [f"create it, or correct the value that names it; {starts}"]
    env = chart.container(dig(snapshot.pod, "spec", default={})).get("env") or []
    references = [dig(entry, "valueFrom", "secretKeyRef", default={}) for entry in env]
    keys = [str(entry.get("key")) for entry in references if entry.get("name") == name]
    literals = " ".join(f"--from-literal={key}=…" for key in keys)
    create = f"kubectl create secret generic -n {snapshot.namespace} {name} {literals}".strip()
    return [f"{create}; {starts}", "or name another in credentials.existingSecret"]


CONTAINERS = [
    Rule(
        r"exec: \"(?P<name>[^\"]+)\".*(?:not found|no such file)",
        "the image has no program {name}",
        "correct image.repository and image.tag: it is not an image of this job",
    ),
    Rule(
        r"nvidia-container-cli|libnvidia|nvml|CDI|nvidia-container-runtime",
        "NVIDIA's runtime fails on the node",
        "check the driver and the container toolkit on the node, or set runtimeClassName",
    ),
    Rule(
        r"no runtime for \"(?P<name>[^\"]*)\" is configured",
        "the node's runtime does not know the runtime class {name}",
        "correct runtimeClassName, or install that runtime on the node",
    ),
    Rule(r"no space left", "the node's disk is full", "free the node's disk, or choose another with nodeSelector"),
]
"""The runtime's message about a container that it cannot create → what it means."""


def container_error(snapshot: Snapshot) -> Finding | None:
    reason, message, _ = _waiting(snapshot)
    sandbox = snapshot.messages(snapshot.pod, "FailedCreatePodSandBox")[-1:]
    if reason in ("ContainerCreating", "PodInitializing", "") and sandbox:
        reason, message = "FailedCreatePodSandBox", sandbox[0]
    if reason not in ("CreateContainerError", "RunContainerError", "FailedCreatePodSandBox"):
        return None
    what, step = first_rule(CONTAINERS, message) or (
        "the container cannot be created",
        "the runtime's message says why",
    )
    return Finding(what, snapshot.pod_place, [f"kubelet: {reason}: {message}"], [step])


MOUNTS = [
    Rule(
        r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found",
        "the {kind} {name}, which it mounts, does not exist",
        "create it, or correct storage.caBundle or extraVolumes; the pod starts by itself once it exists",
    ),
    Rule(
        r"references non-existent (?P<kind>\S+) key: (?P<name>\S+)",
        "what it mounts has no key {name}",
        "add it, or correct storage.caBundle.key or extraVolumes",
    ),
    Rule(
        r"Multi-Attach error",
        "its volume is still attached to another node",
        "wait until the other pod has ended, or set volume.accessMode=ReadWriteMany if the class offers it",
    ),
]


def mount(snapshot: Snapshot) -> Finding | None:
    messages = snapshot.messages(snapshot.pod, "FailedMount", "FailedAttachVolume")
    if not messages or _waiting(snapshot)[0] not in ("", "ContainerCreating", "PodInitializing"):
        return None
    known = first_rule(MOUNTS, messages[-1])
    what, step = known or (
        "one of its volumes cannot be mounted",
        "the message is the kubelet's or the volume driver's",
    )
    return Finding(what, snapshot.pod_place, [f"kubelet: {messages[-1]}"], [step])


def starting(snapshot: Snapshot) -> Finding | None:
    """Nothing is wrong so far."""
    pulling, pulled = (snapshot.messages(snapshot.pod, entry) for entry in ("Pulling", "Pulled"))
    if len(pulling) > len(pulled):
        step = "wait: an image with CUDA is several GB"
        return Finding(
            f"{_node(snapshot)} is pulling the image", snapshot.pod_place, [f"kubelet: {pulling[-1]}"], [step]
        )
    return Finding(f"{_node(snapshot)} is starting it", snapshot.pod_place, [], ["wait some seconds"])


def unready_node(snapshot: Snapshot) -> Finding | None:
    """The kubelet of its node does not report, so the pod's state is unknown."""
    node = next(
        (entry for entry in snapshot.nodes or [] if name_of(entry) == dig(snapshot.pod, "spec", "nodeName")), None
    )
    ready = [entry for entry in dig(node, "status", "conditions", default=[]) if entry.get("type") == "Ready"]
    if not ready or ready[0].get("status") == "True":
        return None
    return Finding(
        f"{_node(snapshot)} is not ready: the pod's state is unknown",
        f"node {name_of(node or {})}",
        [f"node: {ready[0].get('reason')}: {ready[0].get('message')}"],
        ["wait: after five minutes the pod is replaced, and the run resumes from its last checkpoint"],
    )


def ending(snapshot: Snapshot) -> Finding | None:
    if not dig(snapshot.pod, "metadata", "deletionTimestamp"):
        return None
    disruption = condition(snapshot.pod or {}, "DisruptionTarget")
    evidence = [f"{disruption.get('reason')}: {disruption.get('message')}"] if disruption else []
    steps = ["wait: it saves its progress, and another pod resumes the run"]
    return Finding("its pod is being stopped", snapshot.pod_place, evidence, steps)


def sleeping(snapshot: Snapshot) -> Finding | None:
    """The value diagnosticMode is set."""
    command = chart.container(dig(snapshot.pod, "spec", default={})).get("command") or [""]
    if "sleep infinity" not in " ".join(command):
        return None
    name = name_of(snapshot.pod or {})
    steps = [f"kubectl exec -n {snapshot.namespace} -it {name} -- bash", "diagnosticMode=false makes it train"]
    return Finding("it sleeps instead of training: diagnosticMode is set", snapshot.pod_place, [], steps)


def running(snapshot: Snapshot) -> Finding | None:
    progress = Progress()
    for line in snapshot.log:
        progress.take(line)
    if progress.waiting is not None:
        steps = ["it continues by itself once storage is available; after storage.timeout the pod fails with 69"]
        return Finding(f"it waits for storage: {progress.waiting}", snapshot.pod_place, snapshot.last_line, steps)
    if progress.awaited is not None:
        steps = [
            "wait: others may just have started; after workerTimeout the pod fails with 69",
            "if that does not help, they cannot reach each other: check networkPolicy, other policies and the DNS",
        ]
        return Finding(f"it waits for {progress.awaited}", snapshot.pod_place, snapshot.last_line, steps)
    where = bar(progress)
    evidence = [where] if where else []
    return Finding(
        f"nothing is wrong: it runs on {_node(snapshot)}",
        snapshot.pod_place,
        evidence + snapshot.last_line,
        [f"kubectl catsdogs follow -n {snapshot.namespace} {snapshot.release}"],
    )


def _node(snapshot: Snapshot) -> str:
    return f"node {dig(snapshot.pod, 'spec', 'nodeName', default='?')}"


def _waiting(snapshot: Snapshot) -> tuple[str, str, str]:
    """Return (reason, message, image) of the container that keeps the pod waiting, init containers first."""
    for statuses in ("initContainerStatuses", "containerStatuses"):
        for entry in dig(snapshot.pod, "status", statuses, default=[]):
            waiting = dig(entry, "state", "waiting", default={})
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                return str(waiting["reason"]), str(waiting.get("message") or ""), _image(snapshot.pod, entry)
    return "", "", ""


def _image(pod: Object | None, status: Object) -> str:
    """Return the image as the pod names it: the status may have its full name, or none yet."""
    every = [*dig(pod, "spec", "initContainers", default=[]), *dig(pod, "spec", "containers", default=[])]
    named = next((entry.get("image") for entry in every if entry.get("name") == status.get("name")), None)
    return str(named or status.get("image") or "")
