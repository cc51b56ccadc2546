"""The table of diagnoses for runs that have ended, or whose last attempt has; and for those without a Job."""

import json
import re
from dataclasses import replace

import pytest

from catsdogs.runtime.errors import EXIT_CODES
from kubectl_catsdogs.base import exit_codes
from kubectl_catsdogs.base.objects import Object
from kubectl_catsdogs.diagnose.stages import DIAGNOSES, OTHERWISE, diagnose, stage_of
from tests.conftest import REPOSITORY
from tests.k8s.fakes.runs import POD, Case, check, disrupted, ended, event, job, job_failed, pod, seen, waiting

WORDS = {
    1: "catsdogs: KeyError: 'labels'",
    2: "Error: No such option '--epoch'. Did you mean --epochs?",
    65: "catsdogs: s3://pets/datasets/birds.zip: no such object",
    69: "catsdogs: no usable GPU; check the node's driver",
    74: "catsdogs: /data: No space left on device",
    75: "catsdogs: interrupted by SIGTERM in epoch 3; progress is saved",
    77: "catsdogs: s3://pets: the credentials are refused: SignatureDoesNotMatch",
    78: "catsdogs: s3://nobodys-pets: no such bucket",
}
STEPS = {
    1: "report it",
    2: "extraArgs",
    65: "archive.key",
    69: "storage.endpoint",
    74: "volume.size",
    75: "the next pod resumes",
    77: "credentials.existingSecret",
    78: "correct the values",
}
RETRY = {True: "a retry may help", False: "a retry does not help"}


def policy(code: int) -> Object:
    message = f"Container catsdogs for pod default/{POD} failed with exit code {code} matching FailJob rule at index 0"
    return job_failed("PodFailurePolicy", message)


def backoff(failed: int = 4) -> Object:
    return job_failed("BackoffLimitExceeded", "Job has reached the specified backoff limit", failed)


def failed_with(code: int) -> Case:
    """As the chart's podFailurePolicy has it: what no retry cures ends the Job, anything else its backoffLimit does."""
    at_once = EXIT_CODES[code][1] is False
    more = [] if at_once else ["the Job gave up after 4 failures: job.backoffLimit is 3"]
    return Case(
        f"exit code {code}",
        seen(ended(code, f"earlier line\n{WORDS[code]}\n"), job_=policy(code) if at_once else backoff()),
        [f"exit code {code}: {EXIT_CODES[code][0]}", *more],
        [WORDS[code]],
        [STEPS[code], RETRY[bool(EXIT_CODES[code][1])], "kubectl delete job -n default pets-1; helm upgrade"],
        f"pod {POD}",
    )


LONGER = "Job was active longer than specified deadline"


def lost(**fields: str) -> Object:
    return pod(phase="Failed", spec={"nodeName": "a"}, status=dict(fields))


POD_ENDS = [
    Case(
        "out of memory",
        seen(ended(137, "12:00:00 epoch 1", reason="OOMKilled"), job_=backoff(1)),
        ["out of memory: it needed more than its limit of 8Gi", "gave up after 1 failure:"],
        ["OOMKilled, exit code 137", "log: 12:00:00 epoch 1"],
        ["resources.limits.memory", "training.batchSize", "shm.size"],
        f"pod {POD}",
    ),
    Case(
        "out of memory, tried again",
        seen(ended(137, reason="OOMKilled"), job_=job(status={"failed": 1})),
        ["out of memory"],
        ["1 failure so far, job.backoffLimit is 3"],
    ),
    Case(
        "evicted for memory",
        seen(
            lost(
                reason="Evicted",
                message="The node was low on resource: memory. Threshold quantity: 100Mi, available: 88Mi. Container"
                " catsdogs was using 7Gi, request is 4Gi, has larger consumption of memory. ",
            )
        ),
        ["evicted: its node was short of memory"],
        ["kubelet of node a: The node was low on resource: memory", "was using 7Gi, request is 4Gi"],
        ["resources.requests.memory"],
    ),
    Case(
        "evicted for disk",
        seen(lost(reason="Evicted", message="The node was low on resource: ephemeral-storage. ")),
        ["evicted: its node was short of disk"],
        next=["volume.type=pvc"],
    ),
    Case(
        "evicted for its own use of the disk",
        seen(
            lost(
                reason="Evicted",
                message="Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            )
        ),
        ["evicted: its node was short of disk"],
    ),
    Case(
        "evicted for /dev/shm",
        seen(lost(reason="Evicted", message='Usage of EmptyDir volume "shm" exceeds the limit "1Gi". ')),
        ["evicted: /dev/shm is larger than 1Gi"],
        next=["shm.size"],
    ),
    Case(
        "evicted for the volume",
        seen(lost(reason="Evicted", message='Usage of EmptyDir volume "data" exceeds the limit "10Gi". ')),
        ["evicted: its volume is larger than 10Gi"],
        next=["volume.size"],
    ),
    Case(
        "evicted for another volume",
        seen(lost(reason="Evicted", message='Usage of EmptyDir volume "tmp" exceeds the limit "2Gi". ')),
        ["evicted: its volume tmp is larger than 2Gi"],
    ),
    Case(
        "evicted for process ids",
        seen(lost(reason="Evicted", message="The node was low on resource: pids. ")),
        ["evicted: its node was short of pids"],
    ),
    Case(
        "evicted for what is new to us",
        seen(lost(reason="Evicted", message="The node had condition: [Moonlight]. ")),
        ["evicted by its node"],
        ["Moonlight"],
    ),
    Case(
        "refused by its node",
        seen(
            lost(
                reason="UnexpectedAdmissionError",
                message="Pod was rejected: Allocate failed due to requested number of devices unavailable for"
                " nvidia.com/gpu. Requested: 1, Available: 0, which is unexpected",
            )
        ),
        ["its node a rejected the pod: UnexpectedAdmissionError"],
        ["Requested: 1, Available: 0"],
        ["device plugin"],
    ),
    Case(
        "preempted",
        seen(
            ended(
                75,
                WORDS[75],
                status={
                    "conditions": [
                        disrupted(
                            "PreemptionByScheduler",
                            "default-scheduler: preempting to accommodate a higher priority pod",
                        )
                    ]
                },
            )
        ),
        ["preempted by a pod of higher priority"],
        ["preempting to accommodate a higher priority pod", "progress saved"],
        ["another pod resumes", "priorityClassName"],
    ),
    Case(
        "drained",
        seen(ended(143, status={"conditions": [disrupted("EvictionByEvictionAPI", "Eviction API: evicting")]})),
        ["its node was drained"],
        ["Eviction API: evicting"],
    ),
    Case(
        "node lost",
        seen(
            lost(phase="Failed")
            | {
                "status": {
                    "phase": "Failed",
                    "conditions": [
                        disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
                    ],
                }
            }
        ),
        ["its node was lost"],
        ["deleting due to NoExecute taint"],
    ),
    Case(
        "node gone",
        seen(
            ended(
                137,
                "The container could not be located when the pod was terminated",
                reason="ContainerStatusUnknown",
                status={"conditions": [disrupted("DeletionByPodGC", "PodGC: node no longer exists")]},
            )
        ),
        ["its node is gone"],
        ["PodGC: node no longer exists"],
    ),
    Case(
        "container not found again",
        seen(
            ended(
                137,
                "The container could not be located when the pod was terminated",
                reason="ContainerStatusUnknown",
            )
        ),
        ["its node was lost, or shut down"],
        ["The container could not be located"],
    ),
    Case(
        "node shut down",
        seen(
            ended(
                75,
                WORDS[75],
                status={
                    "reason": "Terminated",
                    "message": "Pod was terminated in response to imminent node shutdown.",
                    "conditions": [
                        disrupted("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown.")
                    ],
                },
            )
        ),
        ["its node stopped it: to shut down"],
    ),
    Case(
        "a failure of its own on a node that is drained",
        seen(
            ended(
                65,
                WORDS[65],
                status={"conditions": [disrupted("EvictionByEvictionAPI", "Eviction API: evicting")]},
            ),
            job_=policy(65),
        ),
        ["exit code 65: bad data"],
    ),
    Case(
        "init container",
        seen(
            pod(
                phase="Failed",
                spec={"nodeName": "a"},
                status={
                    "initContainerStatuses": [
                        {"name": "warm", "state": {"terminated": {"exitCode": 3, "message": "first\nno such host\n"}}}
                    ]
                },
            )
        ),
        ["the init container warm failed with exit code 3"],
        ["log: no such host"],
        ["initContainers", f"kubectl logs {POD} -c warm"],
    ),
    Case(
        "not started",
        seen(ended(128, 'exec: "catsdogs": executable file not found in $PATH', reason="StartError")),
        ["the container could not be started"],
        ["executable file not found"],
        ["image.repository"],
    ),
    Case("killed", seen(ended(137, "12:00:00 epoch 2")), ["exit code 137: SIGKILL"], ["epoch 2"], ["GracePeriod"]),
    Case("ended by SIGTERM", seen(ended(143)), ["exit code 143: SIGTERM"], next=["last checkpoint"]),
    Case("crashed", seen(ended(139)), ["exit code 139: SIGSEGV: it crashed in a library"], next=["driver"]),
    Case("gave up in a library", seen(ended(134)), ["exit code 134: SIGABRT"]),
    Case("no shared memory", seen(ended(135)), ["exit code 135: SIGBUS"], next=["shm.size"]),
    Case("old processor", seen(ended(132)), ["exit code 132: an illegal instruction"]),
    Case("another signal", seen(ended(140)), ["exit code 140: signal 12"]),
    Case("no command", seen(ended(127)), ["exit code 127: its command does not exist"], next=["image.tag"]),
    Case(
        "another exit code",
        seen(ended(42, "odd")),
        ["exit code 42: not one of the job’s own"],
        ["log: odd"],
        ["kubectl logs"],
    ),
    Case(
        "failed for a reason that is new to us",
        seen(lost(reason="Moonlight", message="too bright")),
        ["its pod failed: Moonlight"],
        ["Moonlight: too bright"],
        ["kubectl describe pod"],
    ),
    Case(
        "JSON's last line",
        seen(ended(78, json.dumps({"event": "failed", "exit_code": 78, "error": "no such bucket"}))),
        ["exit code 78"],
        ["log: no such bucket"],
    ),
    Case(
        "the log's last line, without a message",
        seen(ended(74), log=["first", WORDS[74]]),
        ["exit code 74"],
        [WORDS[74]],
    ),
    Case(
        "the Secret that storage refuses",
        seen(ended(77, WORDS[77]), job_=policy(77)),
        ["exit code 77"],
        ["its credentials come from Secret storage"],
    ),
    Case(
        "the role that storage refuses",
        seen(ended(77, WORDS[77], spec={"containers": [{"name": "catsdogs"}], "serviceAccountName": "pets"})),
        ["exit code 77"],
        ["the role of service account pets, or of the node"],
    ),
]

JOB_ENDS = [
    *(failed_with(code) for code in EXIT_CODES if code),
    Case(
        "the pod that the Job controller names",
        seen(ended(65, WORDS[65]), ended(75, WORDS[75], name="pets-1-zzzzz"), job_=policy(65)),
        ["exit code 65"],
        where=f"pod {POD}",
    ),
    Case(
        "deadline",
        seen(
            ended(75, WORDS[75]),
            job_=job_failed("DeadlineExceeded", LONGER, activeDeadlineSeconds=7200),
        ),
        ["it took longer than job.activeDeadlineSeconds allows: 2h", "exit code 75"],
        next=["job.activeDeadlineSeconds", "helm upgrade"],
        where="Job pets-1",
    ),
    Case(
        "deadline, without having begun",
        seen(
            job_=job_failed("DeadlineExceeded", LONGER, activeDeadlineSeconds=60),
            events=[event(pod(), "FailedScheduling", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")],
        ),
        ["it took longer than job.activeDeadlineSeconds allows: 1m"],
        ["1 Insufficient nvidia.com/gpu"],
    ),
    Case(
        "pods gone, code known",
        seen(job_=policy(77), log=[WORDS[77]]),
        ["exit code 77"],
        [WORDS[77], "matching FailJob rule"],
        where="Job pets-1",
    ),
    Case(
        "pods gone, log in the bucket",
        seen(
            job_=backoff(),
            log=[json.dumps({"event": "failed", "exit_code": 69, "error": "s3://pets: away", "text": "x"})],
        ),
        ["exit code 69", "the Job gave up"],
        ["log: s3://pets: away"],
        where="log.jsonl in the bucket",
    ),
    Case(
        "pods gone, log unread",
        seen(job_=backoff(), log_hint="aws s3 cp s3://pets/runs/pets-1/log.jsonl - | tail"),
        ["it failed, and its pods are gone", "the Job gave up"],
        next=["aws s3 cp"],
    ),
    Case(
        "complete",
        seen(
            ended(0),
            job_=job(
                status={
                    "conditions": [{"type": "Complete", "status": "True"}],
                    "startTime": "2026-01-01T00:00:00Z",
                    "completionTime": "2026-01-01T00:02:05Z",
                }
            ),
        ),
        ["nothing is wrong: the run is complete, its result is at s3://pets/runs/pets-1/"],
        ["it took 2m5s"],
        ["catsdogs verify s3://pets/runs/pets-1"],
    ),
    Case("pod succeeded", seen(ended(0)), ["its pod has succeeded, and the Job is about to be complete"]),
    Case(
        "tried again, and the quota is used up by now",
        seen(
            ended(69, WORDS[69]),
            events=[
                event(job(), "SuccessfulCreate", f"Created pod: {POD}", "2026-01-01T00:00:01Z"),
                event(
                    job(),
                    "FailedCreate",
                    'Error: pods "x" is forbidden: exceeded quota: gpus, requested: a=1',
                    "2026-01-01T00:00:09Z",
                ),
            ],
        ),
        ["the quota gpus of the namespace", "exit code 69"],
    ),
    Case(
        "a second pod waits",
        seen(
            ended(69, WORDS[69], name="pets-1-aaaaa"),
            ended(69, WORDS[69], name="pets-1-bbbbb"),
            waiting("ErrImagePull"),
        ),
        ["cannot be pulled", "2 earlier attempts failed, the last: exit code 69"],
    ),
]

ACCOUNT = {"kind": "ServiceAccount", "metadata": {"name": "pets-catsdogs-train"}}
CRON = {"kind": "CronJob", "metadata": {"name": "pets"}, "spec": {"schedule": "0 3 * * 0"}}


def json_line(event: str, **data: object) -> str:
    return json.dumps({"event": event, "text": "all of it", **data})


GONE = [
    Case(
        "removed, log unread",
        replace(seen(), job=None, remains=ACCOUNT, log_hint="aws s3 cp …"),
        ["its Job was removed: by job.ttlSecondsAfterFinished"],
        next=["aws s3 cp …", "helm upgrade -n default pets CHART"],
        where="ServiceAccount pets-catsdogs-train",
    ),
    Case(
        "removed after a failure",
        replace(seen(), job=None, remains=ACCOUNT, log=[json_line("failed", exit_code=65, error="birds.zip")]),
        ["exit code 65: bad data", "its Job was removed"],
        ["log: birds.zip"],
        where="log.jsonl in the bucket",
    ),
    Case(
        "removed after its end",
        replace(seen(), job=None, remains=ACCOUNT, log=[json_line("published", uri="s3://pets/runs/pets-1")]),
        ["nothing is wrong: the run is published at s3://pets/runs/pets-1", "its Job was removed"],
    ),
    Case(
        "removed in its midst",
        replace(seen(), job=None, remains=ACCOUNT, log=[json_line("training")]),
        ["the log ends in the middle of the run", "its Job was removed"],
        ["log: all of it"],
    ),
    Case(
        "on a schedule",
        replace(seen(), job=None, remains=CRON),
        ["there is no run yet: CronJob pets starts them at '0 3 * * 0'"],
        next=["kubectl create job -n default --from=cronjob/pets RUN"],
    ),
    Case(
        "on a schedule that is suspended",
        replace(seen(), job=None, remains=CRON | {"spec": {"schedule": "@daily", "suspend": True}}),
        ["there is no run: CronJob pets is suspended"],
        next=["job.suspend=false"],
    ),
]


@pytest.mark.parametrize("case", [*POD_ENDS, *JOB_ENDS, *GONE], ids=lambda case: case.name)
def test_diagnosis(case: Case) -> None:
    check(case)


def test_exit_codes_are_those_of_the_job() -> None:
    assert {code: known[:2] for code, known in exit_codes.EXIT_CODES.items()} == EXIT_CODES
    assert all(known.advice for code, known in exit_codes.EXIT_CODES.items() if code)


def test_what_no_retry_cures_is_what_the_chart_gives_up_at_once() -> None:
    chart = (REPOSITORY / "helm/catsdogs-train/templates/_job.tpl").read_text()
    given_up = json.loads(re.search(r"values: (\[2.*\])", chart)[1])  # type: ignore[index]
    assert {code for code, (_, retry) in EXIT_CODES.items() if retry is False} == set(given_up)


def test_every_stage_has_something_to_tell() -> None:
    """Also of objects with nothing in them, as a cluster may send them at any time."""
    empty: Object = {"metadata": {"name": "x"}}
    pods: list[list[Object]] = [[], [empty]]
    for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
        pods += [
            [empty | {"status": {"phase": phase}}],
            [empty | {"spec": {"nodeName": "a"}, "status": {"phase": phase}}],
        ]
    for some in pods:
        for one in (empty, empty | {"spec": {"suspend": True}}, job(), backoff(), policy(65)):
            found = diagnose(seen(*some, job_=one))
            assert found, (some, one)
            assert all(each.what and each.where for each in found)
    assert set(OTHERWISE) < set(DIAGNOSES)
    assert stage_of(seen(empty, job_=empty)) == "Pending"
