"""Why a pod that has a node does not run, and how one that runs is doing. Pure."""

import re

from kubectl_catsdogs.base import contract
from kubectl_catsdogs.base.contract import Object, condition, dig, name_of
from kubectl_catsdogs.diagnose.snapshot import Finding, Rule, Seen, first_rule
from kubectl_catsdogs.jobs.progress import Progress, bar

PULLS = [
    Rule(
        r"(?i)unauthorized|authentication required|no basic auth|denied|forbidden|\b40[13]\b",
        "the registry refuses it",
        "set imagePullSecrets to a Secret for that registry, or correct image.repository",
    ),
    Rule(
        r"(?i)no such host|timeout|timed out|refused|dial tcp|x509|no route|unreachable|TLS",
        "the node cannot reach the registry",
        "correct the registry in image.repository, or see to the node's network, proxy and certificates",
    ),
    Rule(
        r"(?i)no match for platform|no matching manifest",
        "the image is not made for the node's kind of processor",
        "set nodeSelector (kubernetes.io/arch), or build the image for that kind",
    ),
    Rule(r"(?i)no space left", "the node's disk is full", "free the node's disk, or choose another with nodeSelector"),
    Rule(
        r"(?i)not found|does not exist|unknown|manifest",
        "the registry has no such image",
        "correct image.repository, image.tag or image.digest, and see that the image was pushed there",
    ),
]
"""What the runtime says of a failed pull → what it means."""


def image_pull(seen: Seen) -> Finding | None:
    reason, message, image = _waiting(seen)
    if reason not in ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed"):
        return None
    # While it backs off, the state only repeats the name.
    told = [text for text in seen.events_of(seen.pod, "Failed") if text.startswith("Failed to pull")]
    words = told[-1] if told else message
    why, step = first_rule(PULLS, words.replace(image, "")) or (
        "",
        "correct image.repository, image.tag or image.digest",
    )
    what = f"the image {image} cannot be pulled" + (f": {why}" if why else "")
    return Finding(
        what, seen.pod_place, [f"kubelet: {words}"], [step, "the pod starts by itself once it can be pulled"]
    )


def image_name(seen: Seen) -> Finding | None:
    reason, message, image = _waiting(seen)
    if reason != "InvalidImageName":
        return None
    steps = ["correct image.repository, image.tag or image.digest"]
    return Finding(f"{image} is no name of an image", seen.pod_place, [f"kubelet: {message}"], steps)


def image_absent(seen: Seen) -> Finding | None:
    reason, message, image = _waiting(seen)
    if reason != "ErrImageNeverPull":
        return None
    return Finding(
        f"the image {image} is not on the node, and image.pullPolicy=Never forbids to pull it",
        seen.pod_place,
        [f"kubelet: {message}"],
        [f"load it on {_node(seen)}, or set image.pullPolicy=IfNotPresent"],
    )


def missing_config(seen: Seen) -> Finding | None:
    """A Secret, a ConfigMap or a key in one, that the environment names."""
    reason, message, _ = _waiting(seen)
    if reason != "CreateContainerConfigError":
        return None
    starts = "the pod starts by itself once it is there"
    if found := re.search(r"couldn't find key (\S+) in (Secret|ConfigMap) [^/\s]+/(\S+)", message):
        key, kind, name = found.groups()
        steps = [f"add it, or name the Secret's own in credentials.keys; {starts}"]
        if kind == "ConfigMap":
            steps = [f"add it, or correct the value that names it; {starts}"]
        return Finding(f"the {kind} {name} has no key {key}", f"{kind} {name}", [f"kubelet: {message}"], steps)
    if found := re.search(r"(secret|configmap) \"([^\"]+)\" not found", message):
        kind, name = {"secret": "Secret", "configmap": "ConfigMap"}[found[1]], found[2]
        return Finding(
            f"the {kind} {name} is not there",
            f"{kind} {name}",
            [f"kubelet: {message}"],
            _make(seen, kind, name, starts),
        )
    if "runAsNonRoot" in message or "non-root" in message:
        steps = ["leave podSecurityContext.runAsUser at 10001, or use an image whose user is not root"]
        return Finding(
            "it would run as root, which runAsNonRoot forbids", seen.pod_place, [f"kubelet: {message}"], steps
        )
    steps = ["correct what the message names"]
    return Finding("the container's configuration is not accepted", seen.pod_place, [f"kubelet: {message}"], steps)


def _make(seen: Seen, kind: str, name: str, starts: str) -> list[str]:
    """How to make a Secret with the keys that the pod reads from it, or a ConfigMap."""
    if kind == "ConfigMap":
        return [f"create it, or correct the value that names it; {starts}"]
    env = contract.container(dig(seen.pod, "spec", default={})).get("env") or []
    references = [dig(one, "valueFrom", "secretKeyRef", default={}) for one in env]
    keys = [str(one.get("key")) for one in references if one.get("name") == name]
    literals = " ".join(f"--from-literal={key}=…" for key in keys)
    made = f"kubectl create secret generic -n {seen.namespace} {name} {literals}".strip()
    return [f"{made}; {starts}", "or name another in credentials.existingSecret"]


CONTAINERS = [
    Rule(
        r"exec: \"(?P<name>[^\"]+)\".*(?:not found|no such file)",
        "the image has no program {name}",
        "correct image.repository and image.tag: it is not an image of this job",
    ),
    Rule(
        r"nvidia-container-cli|libnvidia|nvml|CDI|nvidia-container-runtime",
        "NVIDIA's runtime fails on the node",
        "see to the driver and the container toolkit on the node, or set runtimeClassName",
    ),
    Rule(
        r"no runtime for \"(?P<name>[^\"]*)\" is configured",
        "the node's runtime does not know the runtime class {name}",
        "correct runtimeClassName, or install that runtime on the node",
    ),
    Rule(r"no space left", "the node's disk is full", "free the node's disk, or choose another with nodeSelector"),
]
"""What the runtime says of a container that it cannot make → what it means."""


def container_error(seen: Seen) -> Finding | None:
    reason, message, _ = _waiting(seen)
    sandbox = seen.events_of(seen.pod, "FailedCreatePodSandBox")[-1:]
    if reason in ("ContainerCreating", "PodInitializing", "") and sandbox:
        reason, message = "FailedCreatePodSandBox", sandbox[0]
    if reason not in ("CreateContainerError", "RunContainerError", "FailedCreatePodSandBox"):
        return None
    what, step = first_rule(CONTAINERS, message) or ("the container cannot be made", "the runtime's message says why")
    return Finding(what, seen.pod_place, [f"kubelet: {reason}: {message}"], [step])


MOUNTS = [
    Rule(
        r"(?P<kind>secret|configmap) \"(?P<name>[^\"]+)\" not found",
        "the {kind} {name}, which it mounts, is not there",
        "create it, or correct storage.caBundle or extraVolumes; the pod starts by itself once it is there",
    ),
    Rule(
        r"references non-existent (?P<kind>\S+) key: (?P<name>\S+)",
        "what it mounts has no key {name}",
        "add it, or correct storage.caBundle.key or extraVolumes",
    ),
    Rule(
        r"Multi-Attach error",
        "its volume is still attached to another node",
        "wait until the other pod has ended, or set volume.accessMode=ReadWriteMany where the class offers it",
    ),
]


def mount(seen: Seen) -> Finding | None:
    messages = seen.events_of(seen.pod, "FailedMount", "FailedAttachVolume")
    if not messages or _waiting(seen)[0] not in ("", "ContainerCreating", "PodInitializing"):
        return None
    known = first_rule(MOUNTS, messages[-1])
    what, step = known or ("a volume of it cannot be mounted", "the message is the kubelet's or the volume driver's")
    return Finding(what, seen.pod_place, [f"kubelet: {messages[-1]}"], [step])


def starting(seen: Seen) -> Finding | None:
    """Nothing is wrong yet."""
    pulling, pulled = (seen.events_of(seen.pod, one) for one in ("Pulling", "Pulled"))
    if len(pulling) > len(pulled):
        step = "wait: an image with CUDA is several GB"
        return Finding(f"{_node(seen)} is pulling the image", seen.pod_place, [f"kubelet: {pulling[-1]}"], [step])
    return Finding(f"{_node(seen)} is starting it", seen.pod_place, [], ["wait some seconds"])


def unready_node(seen: Seen) -> Finding | None:
    """The kubelet of its node is silent, so nobody knows how the pod is."""
    node = next((one for one in seen.nodes or [] if name_of(one) == dig(seen.pod, "spec", "nodeName")), None)
    ready = [one for one in dig(node, "status", "conditions", default=[]) if one.get("type") == "Ready"]
    if not ready or ready[0].get("status") == "True":
        return None
    return Finding(
        f"{_node(seen)} is not ready: how the pod is, is not known",
        f"node {name_of(node or {})}",
        [f"node: {ready[0].get('reason')}: {ready[0].get('message')}"],
        ["wait: after five minutes the pod is replaced, and the run goes on from its last checkpoint"],
    )


def ending(seen: Seen) -> Finding | None:
    if not dig(seen.pod, "metadata", "deletionTimestamp"):
        return None
    disruption = condition(seen.pod or {}, "DisruptionTarget")
    evidence = [f"{disruption.get('reason')}: {disruption.get('message')}"] if disruption else []
    steps = ["wait: it saves its progress, and another pod goes on from there"]
    return Finding("its pod is being ended", seen.pod_place, evidence, steps)


def sleeping(seen: Seen) -> Finding | None:
    """By the value diagnosticMode."""
    command = contract.container(dig(seen.pod, "spec", default={})).get("command") or [""]
    if "sleep infinity" not in " ".join(command):
        return None
    name = name_of(seen.pod or {})
    steps = [f"kubectl exec -n {seen.namespace} -it {name} -- bash", "diagnosticMode=false trains again"]
    return Finding("it sleeps instead of training: diagnosticMode is on", seen.pod_place, [], steps)


def running(seen: Seen) -> Finding | None:
    progress = Progress()
    for line in seen.said:
        progress.take(line)
    if progress.waiting:
        steps = ["it goes on by itself once its storage answers; after storage.timeout the pod fails with 69"]
        return Finding(f"it waits for its storage: {progress.waiting}", seen.pod_place, seen.said[-1:], steps)
    if progress.awaited:
        steps = [
            "wait: others may just have begun; after workerTimeout the pod fails with 69",
            "if it stays so they cannot reach each other: look at networkPolicy, the cluster's own and its DNS",
        ]
        return Finding(f"it waits for {progress.awaited}", seen.pod_place, seen.said[-1:], steps)
    where = bar(progress)
    evidence = [where] if where else []
    return Finding(
        f"nothing is wrong: it runs on {_node(seen)}",
        seen.pod_place,
        evidence + [f"log: {line}" for line in seen.said[-1:]],
        [f"kubectl catsdogs follow -n {seen.namespace} {seen.release}"],
    )


def _node(seen: Seen) -> str:
    return f"node {dig(seen.pod, 'spec', 'nodeName', default='?')}"


def _waiting(seen: Seen) -> tuple[str, str, str]:
    """(reason, message, image) of the container that keeps the pod waiting; an init container comes first."""
    for statuses in ("initContainerStatuses", "containerStatuses"):
        for one in dig(seen.pod, "status", statuses, default=[]):
            waiting = dig(one, "state", "waiting", default={})
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                return str(waiting["reason"]), str(waiting.get("message") or ""), _image(seen.pod, one)
    return "", "", ""


def _image(pod: Object | None, status: Object) -> str:
    """As the pod names it: the status may have it in full, or not yet."""
    every = [*dig(pod, "spec", "initContainers", default=[]), *dig(pod, "spec", "containers", default=[])]
    named = next((one.get("image") for one in every if one.get("name") == status.get("name")), None)
    return str(named or status.get("image") or "")
