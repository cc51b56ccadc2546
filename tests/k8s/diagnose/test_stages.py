"""The table of diagnoses for runs that have not begun, or that run: suspended, pending, starting, running."""

import pytest

from kubectl_catsdogs.api import resources
from kubectl_catsdogs.base.objects import Object
from kubectl_catsdogs.diagnose import scheduling
from tests.k8s.fakes.logs import lines
from tests.k8s.fakes.runs import (
    CLAIM,
    GPU,
    Case,
    check,
    claim,
    disrupted,
    ended,
    event,
    job,
    node,
    other,
    pod,
    seen,
    storage_class,
    unscheduled,
    waiting,
)

QUEUE = {"kueue.x-k8s.io/queue-name": "gpus"}
NOT_HELPFUL = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


def workload(*conditions: tuple[str, str, str, str], active: bool = True, checks: list[Object] | None = None) -> Object:
    made = [dict(zip(("type", "status", "reason", "message"), one, strict=True)) for one in conditions]
    return {
        "metadata": {"name": "job-pets-1-f00", "ownerReferences": [{"kind": "Job", "uid": "uid-pets-1"}]},
        "spec": {"active": active, "queueName": "gpus"},
        "status": {"conditions": made, "admissionChecks": checks or []},
    }


NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor a100"
SUSPENDED = [
    Case(
        "by hand",
        seen(job_=job(spec={"suspend": True})),
        ["the Job is suspended"],
        next=["kubectl patch job -n default pets-1", '{"spec":{"suspend":false}}'],
        where="Job pets-1",
    ),
    Case(
        "by hand, its last pod ended",
        seen(ended(75), job_=job(spec={"suspend": True})),
        ["the Job is suspended"],
    ),
    Case(
        "by Kueue, without quota",
        seen(
            job_=job(spec={"suspend": True}, labels=QUEUE),
            workload=workload(("QuotaReserved", "False", "Pending", NO_QUOTA)),
        ),
        ["until Kueue admits it to the queue gpus"],
        [NO_QUOTA],
        ["wait"],
        where="Workload job-pets-1-f00",
    ),
    Case(
        "by Kueue, whose queue is missing",
        seen(
            job_=job(spec={"suspend": True}, labels=QUEUE),
            workload=workload(("QuotaReserved", "False", "Inadmissible", "LocalQueue gpus doesn't exist")),
        ),
        ["until Kueue admits it"],
        ["LocalQueue gpus doesn't exist"],
    ),
    Case(
        "by Kueue, preempted",
        seen(
            job_=job(spec={"suspend": True}, labels=QUEUE),
            workload=workload(
                ("QuotaReserved", "False", "Pending", "Preempted to accommodate a workload"),
                ("Evicted", "True", "Preempted", "Preempted to accommodate a workload (UID: 1) due to prioritization"),
                ("PodsReady", "True", "Started", "All pods reached readiness"),
            ),
        ),
        ["until Kueue admits it"],
        ["Evicted is True, Preempted: Preempted to accommodate"],
    ),
    Case(
        "by Kueue, an admission check pending",
        seen(
            job_=job(spec={"suspend": True}, labels=QUEUE),
            workload=workload(checks=[{"name": "prov", "state": "Pending", "message": "Waiting for nodes"}]),
        ),
        ["until Kueue admits it"],
        ["admission check prov is Pending: Waiting for nodes"],
    ),
    Case(
        "by Kueue, deactivated",
        seen(
            job_=job(spec={"suspend": True}, labels=QUEUE),
            workload=workload(
                ("Evicted", "True", "DeactivatedDueToRequeuingLimitExceeded", "exceeded the number of re-queues"),
                active=False,
            ),
        ),
        ["Workload is deactivated"],
        ["exceeded the number of re-queues"],
        ["kubectl patch workload -n default job-pets-1-f00"],
    ),
    Case(
        "for a Kueue that does not exist",
        seen(job_=job(spec={"suspend": True}, labels=QUEUE)),
        ["has created no Workload"],
        next=["kubectl get localqueue", "kueue.queueName="],
    ),
]


def refused(message: str) -> Object:
    return event(job(), "FailedCreate", f'Error creating: pods "pets-1-abcde" is forbidden: {message}')


EXCEEDED = (
    "exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=2,"
    " limited: requests.nvidia.com/gpu=2"
)
QUOTA = {
    "metadata": {"name": "gpus"},
    "status": {
        "hard": {"requests.nvidia.com/gpu": "2", "requests.memory": "64Gi"},
        "used": {"requests.nvidia.com/gpu": "2", "requests.memory": "8Gi"},
    },
}
RESTRICTED = (
    'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "catsdogs" must set'
    ' securityContext.allowPrivilegeEscalation=false), runAsNonRoot != true (pod or container "catsdogs" must set'
    " securityContext.runAsNonRoot=true)"
)
NO_POD = [
    Case("none yet", seen(), ["has created no pod yet"], next=["wait some seconds"]),
    Case(
        "quota exceeded",
        seen(events=[refused(EXCEEDED)], quotas=[QUOTA]),
        ["the quota gpus of the namespace does not allow its pod"],
        ["requested: requests.nvidia.com/gpu=1", "quota gpus: 2 of 2 requests.nvidia.com/gpu are used"],
        ["wait for other pods to end", "gpu.count"],
        where="ResourceQuota gpus",
    ),
    Case(
        "quota exceeded, quotas unread",
        seen(events=[refused(EXCEEDED)]),
        ["the quota gpus"],
        ["limited: requests.nvidia.com/gpu=2"],
    ),
    Case(
        "quota that demands limits",
        seen(events=[refused("failed quota: mem: must specify limits.memory for: catsdogs")]),
        ["the quota mem requires values that its pod does not set: limits.memory for: catsdogs"],
        next=["resources.limits"],
    ),
    Case(
        "Pod Security",
        seen(events=[refused(RESTRICTED)]),
        ["Pod Security level restricted:latest forbids its pod: allowPrivilegeEscalation != false"],
        ["runAsNonRoot != true"],
        ["podSecurityContext"],
        where="Job pets-1",
    ),
    Case(
        "service account",
        seen(events=[refused('error looking up service account default/pets: serviceaccount "pets" not found')]),
        ["its service account pets does not exist"],
        next=["serviceAccount.create=true"],
    ),
    Case(
        "priority class",
        seen(events=[refused("no PriorityClass with name high was found")]),
        ["the priority class high does not exist"],
        next=["priorityClassName"],
    ),
    Case(
        "runtime class",
        seen(events=[refused('pod rejected: RuntimeClass "nvidia" not found')]),
        ["the runtime class nvidia does not exist"],
        next=["runtimeClassName"],
    ),
    Case(
        "limit range",
        seen(events=[refused("maximum memory usage per Container is 4Gi, but limit is 8Gi")]),
        ["a LimitRange of the namespace forbids what it requests: maximum memory usage per Container is 4Gi"],
        next=["resources.limits"],
    ),
    Case(
        "webhook",
        seen(
            events=[
                event(
                    job(),
                    "FailedCreate",
                    'Error creating: admission webhook "validate.kyverno.svc-fail" denied the request: no :latest',
                )
            ]
        ),
        ["the admission webhook validate.kyverno.svc-fail forbids its pod: no :latest"],
    ),
    Case(
        "webhook that is away",
        seen(
            events=[
                event(
                    job(),
                    "FailedCreate",
                    "Error creating: Internal error occurred: failed calling webhook"
                    ' "mpod.kb.io": failed to call webhook: Post "https://…": no endpoints available for service',
                )
            ]
        ),
        ["the admission webhook mpod.kb.io does not answer"],
    ),
    Case(
        "refused otherwise",
        seen(events=[event(job(), "FailedCreate", "Error creating: etcdserver: request is too large")]),
        ["the API server rejects its pod"],
        ["request is too large"],
    ),
    Case(
        "refused once, made since",
        seen(
            events=[
                event(job(), "SuccessfulCreate", "Created pod: pets-1-abcde", "2026-01-01T00:00:09Z"),
                event(job(), "FailedCreate", f"Error creating: {EXCEEDED}", "2026-01-01T00:00:01Z"),
            ]
        ),
        ["has created no pod yet"],
    ),
]

TAINT = "1 node(s) had untolerated taint {dedicated: research}"
NO_GPU_NODES = [node("a", offers={"amd.com/gpu": "4"}), node("b"), node("c")]
GPU_NODES = [node("a", gpus=2), node("b", gpus=1), node("c")]


def told(message: str) -> Object:
    return unscheduled(f"0/3 nodes are available: {message}. {NOT_HELPFUL}")


SCHEDULING = [
    Case(
        "no node has the resource",
        seen(told(f"3 Insufficient {GPU}"), nodes=NO_GPU_NODES, others=[]),
        [f"no node has the resource {GPU}"],
        ["node a offers 4 amd.com/gpu", f"0/3 nodes are available: 3 Insufficient {GPU}"],
        ["gpu.resource", "gpu.count=0", "device plugin"],
        where="pod pets-1-abcde",
    ),
    Case(
        "no node has any GPU",
        seen(told(f"3 Insufficient {GPU}"), nodes=[node("a"), node("b")], others=[]),
        [f"no node has the resource {GPU}"],
        ["no node offers any GPU or other device (2 nodes in all)"],
    ),
    Case(
        "all are taken",
        seen(
            told(f"3 Insufficient {GPU}"),
            nodes=GPU_NODES,
            others=[other("train-x", "a", gpus="2"), other("notebook", "b", gpus="1"), other("web", "c", cpu="1")],
        ),
        [f"every {GPU} that it may use is taken: it requests 1 {GPU}"],
        [
            f"node a: 0 {GPU} free; taken by team-b/train-x (2 {GPU})",
            f"node b: 0 {GPU} free; taken by team-b/notebook (1 {GPU})",
        ],
        ["wait for these pods to end"],
    ),
    Case(
        "all are taken, by whom may not be read",
        seen(told(f"3 Insufficient {GPU}"), nodes=GPU_NODES),
        [f"every {GPU} that it may use is taken"],
        ["node a has some"],
    ),
    Case(
        "nodes may not be read",
        seen(told(f"1 Insufficient cpu, 2 Insufficient {GPU}")),
        [f"2 nodes: too little {GPU} free, or none at all", "1 node: too little cpu free"],
        next=["gpu.count"],
    ),
    Case(
        "more than any node has",
        seen(
            told(f"3 Insufficient {GPU}"),
            nodes=[node("a", gpus=2, offers={GPU: "0"}), node("b", offers={GPU: "500m"})],
            others=[],
        ),
        [f"no node is large enough: it requests 1 {GPU}"],
        ["node b, the largest that it may use"],
        ["lower gpu.count"],
    ),
    Case(
        "too little memory on every node",
        seen(told("3 Insufficient memory"), nodes=[node("a", gpus=1, offers={"memory": "3Gi"})], others=[]),
        ["no node is large enough: it requests 4 Gi of memory"],
        ["node a, the largest that it may use, has 3 Gi of memory"],
        ["resources.requests.memory"],
    ),
    Case(
        "too little CPU free",
        seen(
            told("3 Insufficient cpu"),
            nodes=[node("a", gpus=1, offers={"cpu": "4"})],
            others=[other("web", "a", cpu="2500m"), other("small", "a", cpu="100m"), other("none", "a")],
        ),
        ["it requests 2 cpu, and no node that it may use has that much free"],
        ["node a: 1.4 cpu free; taken by team-b/web (2.5 cpu), team-b/small (0.1 cpu)"],
        ["resources.requests.cpu"],
    ),
    Case(
        "the node with the GPU has a taint",
        seen(
            told(f"{TAINT}, 2 Insufficient {GPU}"),
            nodes=[node("a", gpus=2, taint="dedicated=research:NoSchedule"), node("b"), node("c")],
            others=[],
        ),
        ["1 node (a): taint dedicated=research:NoSchedule", "no node is large enough"],
        next=["{key: dedicated, operator: Exists, effect: NoSchedule} to the value tolerations"],
    ),
    Case(
        "another node has a taint",
        seen(
            told(f"{TAINT}, 2 Insufficient {GPU}"),
            nodes=[node("a", gpus=2), node("b", taint="dedicated=research:NoSchedule"), node("c")],
            others=[other("x", "a", gpus="2")],
        ),
        [f"every {GPU} that it may use is taken", "taint dedicated=research:NoSchedule"],
    ),
    Case(
        "a taint, nodes unread",
        seen(told(f"1 node(s) had untolerated taint {{nvidia.com/special: }}, 2 Insufficient {GPU}")),
        ["1 node: taint nvidia.com/special, which", f"2 nodes: too little {GPU}"],
        next=["{key: nvidia.com/special, operator: Exists} to the value tolerations"],
    ),
    Case(
        "control plane only",
        seen(
            unscheduled(
                "0/1 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }."
                " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ),
            nodes=[node("cp", gpus=1, taint="node-role.kubernetes.io/control-plane=:NoSchedule")],
        ),
        ["1 node (cp): part of the control plane"],
    ),
    Case(
        "node not ready",
        seen(
            told(f"1 node(s) had untolerated taint {{node.kubernetes.io/not-ready: }}, 2 Insufficient {GPU}"),
            nodes=[node("a", gpus=2, taint="node.kubernetes.io/not-ready=:NoSchedule"), node("b"), node("c")],
            others=[],
        ),
        ["1 node (a): not ready", "no node is large enough"],
    ),
    Case(
        "node not ready, without the resource",
        seen(
            told(f"1 node(s) had untolerated taint {{node.kubernetes.io/not-ready: }}, 2 Insufficient {GPU}"),
            nodes=[node("a", taint="node.kubernetes.io/not-ready=:NoSchedule"), node("b", gpus=1), node("c")],
            others=[other("x", "b", gpus="1")],
        ),
        [f"every {GPU} that it may use is taken", "(a): not ready"],
    ),
    Case(
        "cordoned",
        seen(
            told(f"1 node(s) were unschedulable, 2 Insufficient {GPU}"),
            nodes=[node("a", gpus=2, cordoned=True), node("b"), node("c")],
            others=[],
        ),
        ["1 node (a): cordoned", "no node is large enough"],
        next=["kubectl uncordon"],
    ),
    Case(
        "several reasons: what holds for nodes with the resource comes first, the control plane last",
        seen(
            unscheduled(
                "0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector,"
                " 1 node(s) had untolerated taint {dedicated: research},"
                " 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: },"
                f" 1 Insufficient memory, 1 Insufficient {GPU}. {NOT_HELPFUL}"
            ),
            nodes=[
                node("cp", taint="node-role.kubernetes.io/control-plane=:NoSchedule"),
                node("a", gpus=1),
                node("b", taint="dedicated=research:NoSchedule"),
                node("c", offers={"memory": "8Gi"}),
                node("d"),
            ],
            others=[other("x", "a", gpus="1")],
        ),
        [
            f"every {GPU} that it may use is taken",
            "it requests 4 Gi of memory, and no node that it may use has that much free",
            "1 node: without the labels",
            "1 node (b): taint dedicated=research:NoSchedule",
            "1 node (cp): part of the control plane",
        ],
    ),
    Case(
        "labels",
        seen(
            told("3 node(s) didn't match Pod's node affinity/selector"),
            job_=job(),
            nodes=GPU_NODES,
        ),
        ["3 nodes: without the labels that nodeSelector or affinity requires"],
        next=["nodeSelector and affinity"],
    ),
    Case(
        "labels, by name",
        seen(
            unscheduled(
                "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.",
                spec={
                    "nodeSelector": {"gpu": "a100"},
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [
                                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x", "y"]}]}
                                ]
                            }
                        }
                    },
                },
            ),
            nodes=GPU_NODES,
        ),
        ["3 nodes: without the labels"],
        ["it requires gpu=a100, zone In x,y"],
    ),
    Case(
        "volume elsewhere",
        seen(told("2 node(s) didn't match PersistentVolume's node affinity, 1 Insufficient memory"), nodes=GPU_NODES),
        ["it requests 4 Gi of memory", "2 nodes: its volume is out of reach"],
    ),
    Case(
        "no volume to bind",
        seen(told("3 node(s) didn't find available persistent volumes to bind")),
        ["3 nodes: without a volume for its claim"],
        next=["volume.storageClass"],
    ),
    Case(
        "volume in use",
        seen(
            told(
                "1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already"
                " in-use by another pod"
            )
        ),
        ["1 node: its volume is in use by another pod"],
        next=["volume.accessMode=ReadWriteMany"],
    ),
    Case(
        "spreading",
        seen(told("3 node(s) didn't match pod topology spread constraints")),
        ["3 nodes: topologySpreadConstraints would be violated"],
    ),
    Case("pods", seen(told("3 node(s) didn't match pod anti-affinity rules")), ["3 nodes: excluded by affinity"]),
    Case("many pods", seen(told("3 Too many pods")), ["3 nodes: no more pods allowed"]),
    Case(
        "words that are new to us",
        seen(told("3 node(s) were on the moon")),
        ["3 nodes: were on the moon"],
        next=["kubectl describe pod -n default pets-1-abcde"],
    ),
    Case(
        "not in the scheduler's form", seen(unscheduled("no nodes available to schedule pods")), ["no nodes available"]
    ),
    Case(
        "by its event alone",
        seen(pod(), events=[event(pod(), "FailedScheduling", "0/1 nodes are available: 1 Too many pods.")]),
        ["1 node: no more pods allowed"],
    ),
    Case("not looked at", seen(pod(), nodes=NO_GPU_NODES, others=[]), ["the scheduler has not considered it yet"]),
    Case(
        "gates",
        seen(pod(spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]})),
        ["held back by scheduling gates: kueue.x-k8s.io/admission"],
    ),
]

UNBOUND = unscheduled(f"0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. {NOT_HELPFUL}")
NO_CLAIM = unscheduled(f'0/3 nodes are available: persistentvolumeclaim "{CLAIM}" not found. {NOT_HELPFUL}')
FAILED_TO_PROVISION = 'failed to provision volume with StorageClass "standard": rpc error: code = ResourceExhausted'
WAITS = "waiting for first consumer to be created before binding"
VOLUMES = [
    Case(
        "no default class",
        seen(UNBOUND, claims=[claim(storage_class=None)], classes=[storage_class("fast")]),
        [f"its volume claim {CLAIM} has no volume: no storage class is the cluster's default"],
        ["classes here: fast"],
        ["volume.storageClass", "volume.type=emptyDir"],
        where=f"PersistentVolumeClaim {CLAIM}",
    ),
    Case(
        "no class at all",
        seen(
            UNBOUND,
            claims=[claim(storage_class=None)],
            classes=[],
            events=[
                event(
                    claim(),
                    "FailedBinding",
                    "no persistent volumes available for this claim and no storage class is set",
                )
            ],
        ),
        ["no storage class is the cluster's default"],
        ["classes here: none", "no persistent volumes available"],
    ),
    Case(
        "no such class",
        seen(
            UNBOUND,
            claims=[claim(storage_class="fast")],
            classes=[storage_class()],
            events=[event(claim(), "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found')],
        ),
        ["the storage class fast does not exist"],
        ["classes here: standard", '"fast" not found'],
    ),
    Case(
        "provisioning fails",
        seen(
            UNBOUND,
            claims=[claim()],
            classes=[storage_class()],
            events=[event(claim(), "ProvisioningFailed", FAILED_TO_PROVISION)],
        ),
        ["provisioning fails"],
        [FAILED_TO_PROVISION],
        ["volume.size"],
    ),
    Case(
        "provisioning fails, classes unread",
        seen(UNBOUND, claims=[claim()], events=[event(claim(), "ProvisioningFailed", FAILED_TO_PROVISION)]),
        ["provisioning fails"],
        [FAILED_TO_PROVISION],
    ),
    Case(
        "provisioner silent",
        seen(
            UNBOUND,
            claims=[claim()],
            classes=[storage_class()],
            events=[event(claim(), "ExternalProvisioning", "Waiting for a volume to be created")],
        ),
        ["has no volume yet: disk.csi.example.com has not created one"],
        ["Waiting for a volume to be created"],
        ["check that disk.csi.example.com runs"],
    ),
    Case(
        "class without a provisioner",
        seen(
            UNBOUND,
            claims=[claim(storage_class="local")],
            classes=[storage_class("local", provisioner="kubernetes.io/no-provisioner")],
        ),
        ["its class local creates none by itself"],
    ),
    Case(
        "waits for the pod, which waits for a GPU",
        seen(
            told(f"3 Insufficient {GPU}"),
            nodes=NO_GPU_NODES,
            others=[],
            claims=[claim()],
            classes=[storage_class(mode="WaitForFirstConsumer")],
            events=[event(claim(), "WaitForFirstConsumer", WAITS)],
        ),
        [f"no node has the resource {GPU}"],
    ),
    Case(
        "may wait for the pod, classes unread",
        seen(told(f"3 Insufficient {GPU}"), nodes=NO_GPU_NODES, others=[], claims=[claim()]),
        [f"no node has the resource {GPU}"],
    ),
    Case(
        "unbound, classes unread",
        seen(UNBOUND, claims=[claim()]),
        ["has no volume yet: its provisioner has not created one"],
        ["its storage class is standard"],
    ),
    Case(
        "asks for a volume without a class",
        seen(UNBOUND, claims=[claim(storage_class="") | {"spec": {"storageClassName": ""}}], classes=[storage_class()]),
        ["it requests one without a class, and none is free"],
    ),
    Case(
        "made for the node that was chosen",
        seen(
            pod(),
            claims=[claim(annotations={"volume.kubernetes.io/selected-node": "a"})],
            classes=[storage_class(mode="WaitForFirstConsumer")],
        ),
        ["has no volume yet: disk.csi.example.com is creating one"],
    ),
    Case(
        "missing",
        seen(NO_CLAIM, claims=[], classes=[storage_class()], nodes=GPU_NODES, others=[]),
        [f"its volume claim {CLAIM} does not exist"],
        next=["volume.existingClaim"],
    ),
    Case("missing, claims unread", seen(NO_CLAIM), [f"its volume claim {CLAIM} does not exist"]),
    Case(
        "unbound, claims unread",
        seen(UNBOUND),
        [f"its volume claim {CLAIM} has no volume"],
        next=[f"kubectl describe pvc -n default {CLAIM}"],
    ),
    Case(
        "being deleted",
        seen(
            unscheduled(f'0/3 nodes are available: persistentvolumeclaim "{CLAIM}" is being deleted. {NOT_HELPFUL}'),
            claims=[claim("Bound", deletionTimestamp="2026-01-01T00:00:00Z")],
        ),
        [f"its volume claim {CLAIM} is being deleted"],
    ),
    Case("lost", seen(UNBOUND, claims=[claim("Lost")]), ["has no volume any more: its volume is gone"]),
    Case(
        "of an ephemeral volume, beside a lack of GPUs",
        seen(
            unscheduled(
                f"0/3 nodes are available: 3 Insufficient {GPU}.",
                spec={"volumes": [{"name": "data", "ephemeral": {}}]},
            ),
            claims=[claim(storage_class="fast", name="pets-1-abcde-data")],
            classes=[],
            nodes=NO_GPU_NODES,
        ),
        [
            "its volume claim pets-1-abcde-data has no volume: the storage class fast does not exist",
            "no node has the resource",
        ],
    ),
]

IMAGE = "registry.example/catsdogs-train:0.1.0"


def pull(words: str, reason: str = "ImagePullBackOff") -> tuple[Object, list[Object]]:
    blocked = waiting(reason, f'Back-off pulling image "{IMAGE}"')
    return blocked, [
        event(blocked, "Failed", f'Failed to pull image "{IMAGE}": {words}', "2026-01-01T00:00:02Z"),
        event(blocked, "Failed", "Error: ErrImagePull", "2026-01-01T00:00:03Z"),
    ]


def pull_case(name: str, words: str, what: str, step: str, reason: str = "ImagePullBackOff") -> Case:
    blocked, events = pull(words, reason)
    return Case(name, seen(blocked, events=events), [f"{IMAGE} cannot be pulled: {what}"], [words], [step])


STARTING = [
    pull_case(
        "image not found",
        f'failed to pull and unpack image "{IMAGE}": failed to resolve image: {IMAGE}: not found',
        "the registry has no such image",
        "image.tag",
    ),
    pull_case(
        "image refused",
        f'failed to authorize: failed to fetch oauth token: unexpected status from GET request to "{IMAGE}": 401',
        "the registry denies access",
        "imagePullSecrets",
        "ErrImagePull",
    ),
    pull_case(
        "registry unknown",
        'Head "https://registry.example/v2/": dial tcp: lookup registry.example: no such host',
        "the node cannot reach the registry",
        "proxy",
    ),
    pull_case(
        "other platform",
        "no match for platform in manifest: not found",
        "the image does not support the node's processor",
        "arch",
    ),
    pull_case("node full", "write /var/lib/x: no space left on device", "the node's disk is full", "free the node's"),
    Case(
        "image, events unread",
        seen(waiting("ErrImagePull", f"rpc error: code = NotFound desc = {IMAGE}: not found")),
        [f"{IMAGE} cannot be pulled: the registry has no such image"],
    ),
    Case(
        "image of an init container",
        seen(
            pod(
                state={"waiting": {"reason": "PodInitializing"}},
                spec={"nodeName": "a", "initContainers": [{"name": "warm", "image": "busybox:nope"}]},
                status={
                    "initContainerStatuses": [
                        {"name": "warm", "image": "", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
                    ]
                },
            )
        ),
        ["the image busybox:nope cannot be pulled"],
    ),
    Case(
        "image's name",
        seen(waiting("InvalidImageName", f'Failed to apply default image tag "{IMAGE}": invalid reference format')),
        [f"{IMAGE} is not a valid image name"],
        ["invalid reference format"],
    ),
    Case(
        "image that may not be pulled",
        seen(waiting("ErrImageNeverPull", f'Container image "{IMAGE}" is not present with pull policy of Never')),
        [f"the image {IMAGE} is not on the node"],
        next=["load it on node node-1", "image.pullPolicy=IfNotPresent"],
    ),
    Case(
        "no Secret",
        seen(waiting("CreateContainerConfigError", 'secret "storage" not found')),
        ["the Secret storage does not exist"],
        next=["kubectl create secret generic -n default storage --from-literal=AWS_ACCESS_KEY_ID=…", "by itself"],
        where="Secret storage",
    ),
    Case(
        "no key in the Secret",
        seen(
            waiting("CreateContainerConfigError", "couldn't find key AWS_SECRET_ACCESS_KEY in Secret default/storage")
        ),
        ["the Secret storage has no key AWS_SECRET_ACCESS_KEY"],
        next=["credentials.keys"],
    ),
    Case(
        "no ConfigMap",
        seen(waiting("CreateContainerConfigError", 'configmap "extra" not found')),
        ["the ConfigMap extra does not exist"],
        next=["create it"],
    ),
    Case(
        "no key in the ConfigMap",
        seen(waiting("CreateContainerConfigError", "couldn't find key a in ConfigMap default/extra")),
        ["the ConfigMap extra has no key a"],
    ),
    Case(
        "as root",
        seen(
            waiting(
                "CreateContainerConfigError",
                'container has runAsNonRoot and image will run as root (pod: "pets-1-abcde_default(1)")',
            )
        ),
        ["it would run as root"],
        next=["podSecurityContext.runAsUser"],
    ),
    Case(
        "other configuration",
        seen(waiting("CreateContainerConfigError", "services have not yet been read at least once")),
        ["configuration is invalid"],
        ["services have not yet been read"],
    ),
    Case(
        "container error",
        seen(waiting("CreateContainerError", 'failed to reserve container name "x": name is reserved')),
        ["the container cannot be created"],
        ["CreateContainerError: failed to reserve"],
    ),
    Case(
        "no program",
        seen(waiting("RunContainerError", 'exec: "catsdogs": executable file not found in $PATH: unknown')),
        ["the image has no program catsdogs"],
    ),
    Case(
        "NVIDIA's runtime",
        seen(
            waiting(
                "RunContainerError",
                "failed to create shim task: OCI runtime create failed: nvidia-container-cli: initialization error:"
                " nvml error: driver not loaded: unknown",
            )
        ),
        ["NVIDIA's runtime fails on the node"],
        ["driver not loaded"],
        ["container toolkit"],
    ),
    Case(
        "runtime class unknown to the node",
        seen(
            waiting("ContainerCreating"),
            events=[
                event(
                    pod(),
                    "FailedCreatePodSandBox",
                    "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no"
                    ' runtime for "nvidia" is configured',
                )
            ],
        ),
        ["the node's runtime does not know the runtime class nvidia"],
    ),
    Case(
        "mounted Secret missing",
        seen(
            waiting("ContainerCreating"),
            events=[event(pod(), "FailedMount", 'MountVolume.SetUp failed for volume "ca" : secret "my-ca" not found')],
        ),
        ["the secret my-ca, which it mounts, does not exist"],
        next=["storage.caBundle"],
    ),
    Case(
        "mounted key missing",
        seen(
            waiting("ContainerCreating"),
            events=[
                event(
                    pod(),
                    "FailedMount",
                    'MountVolume.SetUp failed for volume "ca" : references non-existent secret key: ca.crt',
                )
            ],
        ),
        ["what it mounts has no key ca.crt"],
    ),
    Case(
        "volume on another node",
        seen(
            waiting("ContainerCreating"),
            events=[
                event(
                    pod(),
                    "FailedAttachVolume",
                    'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) pets-0-xyzab',
                )
            ],
        ),
        ["its volume is still attached to another node"],
        ["pets-0-xyzab"],
    ),
    Case(
        "mount fails otherwise",
        seen(waiting("ContainerCreating"), events=[event(pod(), "FailedMount", "mount.nfs: Connection timed out")]),
        ["one of its volumes cannot be mounted"],
        ["mount.nfs"],
    ),
    Case(
        "pulling",
        seen(waiting("ContainerCreating"), events=[event(pod(), "Pulling", f'Pulling image "{IMAGE}"')]),
        ["node node-1 is pulling the image"],
    ),
    Case(
        "starting",
        seen(
            waiting("ContainerCreating"),
            events=[event(pod(), "Pulling", "Pulling"), event(pod(), "Pulled", "Successfully pulled")],
        ),
        ["node node-1 is starting it"],
    ),
    Case(
        "node silent",
        seen(
            waiting("ContainerCreating"),
            nodes=[
                node(
                    "node-1",
                    conditions=[
                        {
                            "type": "Ready",
                            "status": "Unknown",
                            "reason": "NodeStatusUnknown",
                            "message": "Kubelet stopped posting node status.",
                        }
                    ],
                )
            ],
        ),
        ["node node-1 is not ready"],
        ["Kubelet stopped posting node status."],
    ),
]

RUNS = pod(phase="Running", state={"running": {}})
LOG = [
    *lines("started", recipe="baseline", epochs=30),
    *lines("training", "epoch 3/30: step 40/100", epoch=3, epochs=30, done=40, total=100, accuracy=0.712),
]
TEXT_LOG = ["12:00:00 catsdogs 0.1.0: run pets-1", "12:00:09 epoch 3/30: step 40/100"]
RUNNING = [
    Case(
        "well",
        seen(RUNS, log=LOG, nodes=[node("node-1", conditions=[{"type": "Ready", "status": "True"}])]),
        ["nothing is wrong: it runs on node node-1"],
        ["epoch 3/30  [###", "step 40/100", "accuracy 71.2 %", "log: 12:00:09 epoch 3/30: step 40/100"],
        ["kubectl catsdogs follow -n default pets"],
    ),
    Case(
        "well, log in text",
        seen(RUNS, log=TEXT_LOG),
        ["nothing is wrong: it runs on node node-1"],
        ["log: 12:00:09 epoch 3/30: step 40/100"],
    ),
    Case("well, log unread", seen(RUNS), ["nothing is wrong: it runs on node node-1"]),
    Case(
        "waits for storage",
        seen(RUNS, log=[*LOG, *lines("waiting", "waiting for storage: …", reason="s3://pets: connection refused")]),
        ["it waits for storage: s3://pets: connection refused"],
        ["log: 12:00:09 waiting for storage: …"],
    ),
    Case(
        "sleeps",
        seen(
            pod(
                phase="Running",
                spec={
                    "containers": [
                        {"name": "catsdogs", "command": ["sh", "-c", "trap exit TERM; sleep infinity & wait"]}
                    ]
                },
            )
        ),
        ["it sleeps instead of training"],
        next=["kubectl exec -n default -it pets-1-abcde"],
    ),
    Case(
        "is being ended",
        seen(
            pod(
                phase="Running",
                state={"running": {}},
                metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"},
                status={"conditions": [disrupted("EvictionByEvictionAPI", "Eviction API: evicting")]},
            )
        ),
        ["its pod is being stopped"],
        ["EvictionByEvictionAPI: Eviction API: evicting"],
    ),
    Case(
        "its node is silent",
        seen(
            RUNS,
            nodes=[node("node-1", conditions=[{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}])],
        ),
        ["node node-1 is not ready"],
    ),
    Case(
        "after a failure",
        seen(ended(137, reason="OOMKilled", name="pets-1-aaaaa"), RUNS),
        ["nothing is wrong", "an earlier attempt failed: out of memory"],
    ),
]

TABLE = [*SUSPENDED, *NO_POD, *SCHEDULING, *VOLUMES, *STARTING, *RUNNING]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_diagnosis(case: Case) -> None:
    check(case)


def test_reasons_of_the_scheduler() -> None:
    message = (
        f"0/7 nodes are available: {TAINT}, 2 Insufficient cpu, 4 Insufficient {GPU}. no new claims to deallocate,"
    )
    message += " preemption: 0/7 nodes are available: 7 No preemption victims found for incoming pod."
    assert scheduling.reasons(message) == [
        ("1", "node(s) had untolerated taint {dedicated: research}"),
        ("2", "Insufficient cpu"),
        ("4", f"Insufficient {GPU}"),
    ]
    assert scheduling.reasons("") == []


def test_only_the_newest_message_of_its_own_pod_counts() -> None:
    earlier = pod(name="pets-1-aaaaa")
    events = [
        event(earlier, "FailedMount", "of the one before"),
        event(pod(), "FailedMount", "newest", "2026-01-01T00:00:09Z"),
        event(pod(), "FailedMount", "older", "2026-01-01T00:00:01Z"),
    ]
    assert seen(earlier, pod(), events=events).messages(pod(), "FailedMount") == ["older", "newest"]


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "dedicated", "operator": "Equal", "value": "research"}, True),
        ({"key": "dedicated", "value": "research", "effect": ""}, True),
        ({"key": "dedicated", "operator": "Equal", "value": "another"}, False),
        ({"key": "dedicated", "operator": "Equal"}, False),
        ({"key": "another", "operator": "Exists"}, False),
    ],
)
def test_tolerations(toleration: Object, tolerated: bool) -> None:
    taint = {"key": "dedicated", "value": "research", "effect": "NoSchedule"}
    assert resources.tolerated(taint, {"spec": {"tolerations": [toleration]}}) is tolerated
    assert resources.tolerated(taint, {"spec": {}}) is False


def test_the_sums_of_the_scheduler() -> None:
    """Sums of containers, the largest init container, limits where there are no requests, overhead."""
    made = {
        "spec": {
            "overhead": {"cpu": "250m"},
            "initContainers": [{"resources": {"requests": {"memory": "3Gi", "cpu": "1"}}}],
            "containers": [
                {"resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "4", "memory": "1Gi", GPU: "1"}}},
                {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                {},
            ],
        }
    }
    sums = {name: float(value) for name, value in resources.requested(made).items()}
    assert sums == {"cpu": 2.75, "memory": 3 * 2**30, GPU: 1}
