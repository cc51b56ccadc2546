"""`kubectl catsdogs why`: the real command against an API server, and what it reads there."""

import base64
import gzip
import json
import re
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.k8s.conftest import Plugin, Starter
from tests.k8s.fakes import objects, rbac
from tests.k8s.fakes.api import Api
from tests.k8s.fakes.logs import lines
from tests.k8s.fakes.objects import Object
from tests.k8s.fakes.runs import (
    CLAIM,
    GPU,
    claim,
    ended,
    event,
    job,
    job_failed,
    node,
    other,
    pod,
    storage_class,
    unscheduled,
)
from tests.servers import S3Server

NO_GPU = f"0/2 nodes are available: 2 Insufficient {GPU}. preemption: 0/2 nodes are available: 2 No victims found."


def install(api: Api, *pods: Object, of: Object | None = None) -> None:
    api.put("jobs", of or job())
    for one in pods:
        api.put("pods", one)


def pending(api: Api) -> None:
    """For want of a GPU, with all that may be read about it."""
    install(api, unscheduled(NO_GPU))
    api.put("nodes", node("a", gpus=1))
    api.put("nodes", node("b"))
    api.put("pods", other("notebook", "a", gpus="1"))
    done = other("yesterday", "a", gpus="1")
    api.put("pods", done | {"status": {"phase": "Succeeded"}})
    api.put("persistentvolumeclaims", claim())
    api.put("storageclasses", storage_class(mode="WaitForFirstConsumer"))


def test_names_the_cause_and_the_next_step(api: Api, plugin: Plugin) -> None:
    pending(api)
    told = plugin("why", "pets")
    assert (told.returncode, told.stderr) == (0, "")
    title, *rest = told.stdout.splitlines()
    assert re.fullmatch(
        r"run pets-1 of release pets in namespace default: Pending \(Pod pets-1-abcde, \d+s old\)", title
    )
    assert rest == [
        "",
        f"every {GPU} that it may use is taken: it requests 1 {GPU}",
        "   where  pod pets-1-abcde",
        f"   seen   scheduler: 0/2 nodes are available: 2 Insufficient {GPU}",
        f"          node a: 0 {GPU} free; taken by team-b/notebook (1 {GPU})",
        "   next   wait for these pods to end: it then starts by itself",
        "          or lower gpu.count, or add a node",
    ]


@pytest.mark.parametrize("name", [None, "pets", "pets-1"])
def test_finds_the_run_by_release_by_id_or_as_the_only_one(api: Api, plugin: Plugin, name: str | None) -> None:
    pending(api)
    told = plugin("why", *([name] if name else []))
    assert told.returncode == 0
    assert f"every {GPU}" in told.stdout


def test_the_newest_run_of_a_release(api: Api, plugin: Plugin) -> None:
    old = job_failed("PodFailurePolicy", "x")
    old["metadata"]["creationTimestamp"] = "2025-01-01T00:00:00Z"
    install(api, of=old)
    new = objects.job("pets-2")
    install(api, pod(new, "pets-2-abcde", "Running", state={"running": {}}), of=new)
    assert plugin("why").stdout.startswith("run pets-2 of release pets in namespace default: Running")


def test_no_such_release(api: Api, plugin: Plugin) -> None:
    told = plugin("why", "pets")
    assert (told.returncode, told.stdout) == (65, "")
    assert told.stderr == "kubectl catsdogs: namespace default has no release or run pets; see `helm list -A`\n"
    assert plugin("why").returncode == 65


def test_several_releases(api: Api, plugin: Plugin) -> None:
    install(api)
    install(api, of=objects.job("dogs-1", "dogs"))
    told = plugin("why")
    assert told.returncode == 2
    assert "dogs, pets" in told.stderr


def test_a_permission_that_is_missing_is_a_line(api: Api, plugin: Plugin) -> None:
    pending(api)
    api.denied |= {("list", one) for one in ("nodes", "events", "persistentvolumeclaims", "storageclasses")}
    told = plugin("why")
    assert told.returncode == 0, told.stderr
    assert f"2 nodes: too little {GPU} free, or none at all" in told.stdout
    unread = told.stdout[told.stdout.index("Not read, for lack of permission") :].splitlines()
    assert [line.split(":")[0].strip() for line in unread[1:]] == [
        "events, which often show the cause",
        "nodes",
        "volume claims",
        "storage classes",
    ]
    assert 'User "test" cannot list resource "nodes"' in told.stdout


@pytest.mark.parametrize("resource", ["jobs", "pods"])
def test_not_even_the_run_may_be_read(api: Api, plugin: Plugin, resource: str) -> None:
    pending(api)
    api.denied.add(("list", resource))
    told = plugin("why")
    assert (told.returncode, told.stdout) == (77, "")
    assert f'cannot list resource "{resource}"' in told.stderr


def test_no_connection(api: Api, plugin: Plugin) -> None:
    api.stop()
    told = plugin("why", "--retry-for=1")
    assert (told.returncode, told.stdout) == (69, "")
    assert len(told.stderr.splitlines()) == 1
    assert "does not answer" in told.stderr


def test_what_it_reads_needs_no_more_than_its_roles(api: Api, plugin: Plugin) -> None:
    """And nothing of what only other stages need: a run that goes on well is asked for its log alone."""
    install(api)
    objects.start(api, job(), "pets-1-abcde")
    api.write("pets-1-abcde", *lines("training", epoch=3, epochs=30, done=40, total=100, accuracy=0.712))
    told = plugin("why")
    assert "nothing is wrong: it runs on node node-1" in told.stdout
    assert "epoch 3/30  [##########--------------] step 40/100  accuracy 71.2 %" in told.stdout
    assert {request.resource for request in api.requests} == {"jobs", "pods", "events", "nodes", "pods/log"}
    assert all(rbac.allows(one, "catsdogs-viewer", "catsdogs-cluster") for one in api.requests)


def test_a_run_that_has_no_log_yet(api: Api, plugin: Plugin) -> None:
    install(api, pod(phase="Running", state={"running": {}}))
    assert "nothing is wrong: it runs on node node-1" in plugin("why").stdout


def test_a_log_in_the_place_of_a_termination_message(api: Api, plugin: Plugin) -> None:
    install(api, ended(74), of=job_failed("BackoffLimitExceeded"))
    api.write("pets-1-abcde", "catsdogs: /data: No space left on device", *lines("epoch", form="mixed")[:1])
    api.end_log("pets-1-abcde")
    told = plugin("why").stdout
    assert "1. exit code 74" in told
    assert "log: catsdogs: /data: No space left on device" in told


def test_events_of_an_earlier_job_of_the_name_do_not_count(api: Api, plugin: Plugin) -> None:
    install(api)
    api.put("events", event(job() | {"metadata": {**job()["metadata"], "uid": "another"}}, "FailedCreate", "old"))
    assert "has created no pod yet" in plugin("why").stdout
    api.put(
        "events", event(job(), "FailedCreate", "Error creating: exceeded quota: gpus, requested: a=1", "2099-01-01")
    )
    assert "the quota gpus of the namespace" in plugin("why").stdout


def test_kueue(api: Api, plugin: Plugin) -> None:
    install(api, of=job(spec={"suspend": True}, labels={"kueue.x-k8s.io/queue-name": "gpus"}))
    assert "has created no Workload" in plugin("why").stdout
    api.missing_groups.clear()
    conditions = [{"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "no quota left"}]
    for uid in ("another", "uid-pets-1"):
        owner = {"kind": "Job", "name": "pets-1", "uid": uid}
        made = {"metadata": {"name": f"job-{uid}", "ownerReferences": [owner]}, "spec": {"active": True}}
        api.put("workloads", made | {"status": {"conditions": conditions}})
    told = plugin("why").stdout
    assert "where  Workload job-uid-pets-1" in told
    assert "no quota left" in told


def test_what_the_cluster_says_moves_no_cursor(api: Api, plugin: Plugin) -> None:
    evil = "x\x1b[2J\r\x07\u202e\n   next   run this"
    install(api, ended(65, evil, reason=evil), of=job_failed("PodFailurePolicy", evil))
    api.put("events", event(job(), "FailedCreate", evil))
    told = plugin("why").stdout
    assert "exit code 65" in told
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", told)
    assert "\n   next   run this" not in told


def test_a_run_id_of_its_own(api: Api, plugin: Plugin) -> None:
    made = job()
    made["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "CATSDOGS_RUN_ID", "value": "friday"})
    install(api, of=made)
    assert plugin("why", "friday").stdout.startswith("run friday of release pets")


# A Job that is gone

LABELS = {"app.kubernetes.io/instance": "pets", "helm.sh/chart": "catsdogs-train-0.1.0"}
FAILED = {
    "event": "failed",
    "text": "ended with exit code 65: …",
    "exit_code": 65,
    "error": "birds.zip: no such object",
}


def installed(api: Api, endpoint: str = "") -> None:
    """As helm leaves it: the service account, and the release's revisions in Secrets."""
    api.put("serviceaccounts", {"metadata": {"name": "pets-catsdogs-train", "labels": LABELS}})
    for revision, run in (("9", "old"), ("10", "new")):
        written = job()
        written["metadata"]["name"] = run
        written["spec"]["template"]["spec"]["containers"][0]["env"] += [
            {"name": "AWS_ENDPOINT_URL_S3", "value": endpoint},
            {"name": "CATSDOGS_ADDRESSING_STYLE", "value": "path"},
        ]
        earlier = written | {"metadata": {"name": "earlier"}}
        parts = [("history", earlier), ("job", written), ("pvc", {"kind": "PersistentVolumeClaim"})]
        manifest = "".join(
            f"---\n# Source: catsdogs-train/templates/{template}.yaml\n{json.dumps(item)}\n" for template, item in parts
        )
        packed = gzip.compress(json.dumps({"name": "pets", "manifest": manifest}).encode())
        api.put(
            "secrets",
            {
                "metadata": {
                    "name": f"sh.helm.release.v1.pets.v{revision}",
                    "labels": {"owner": "helm", "name": "pets", "version": revision},
                },
                "data": {"release": base64.b64encode(base64.b64encode(packed)).decode()},
            },
        )


@pytest.fixture(scope="module")
def s3(seaweedfs: S3Server) -> S3Server:
    seaweedfs.client().create_bucket(Bucket="pets")
    return seaweedfs


def keys(s3: S3Server) -> dict[str, str]:
    """Endpoint and region are the run's."""
    return {name: s3.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


def test_a_removed_run_is_told_from_the_bucket(api: Api, plugin: Plugin, s3: S3Server) -> None:
    lines = [{"event": "started", "text": "begins"}, FAILED]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    s3.client().put_object(Bucket="pets", Key="runs/new/log.jsonl", Body=text.encode())
    installed(api, s3.endpoint)
    told = plugin("why", env=keys(s3))
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("release pets in namespace default: no Job\n")
    assert "1. exit code 65: bad data" in told.stdout
    assert "where  log.jsonl in the bucket" in told.stdout
    assert "seen   log: birds.zip: no such object" in told.stdout
    assert "2. its Job was removed: by job.ttlSecondsAfterFinished" in told.stdout


def test_a_failed_run_without_pods_is_told_from_the_bucket(api: Api, plugin: Plugin, s3: S3Server) -> None:
    s3.client().put_object(Bucket="pets", Key="runs/pets-1/log.jsonl", Body=json.dumps(FAILED).encode())
    of = job_failed("BackoffLimitExceeded", "Job has reached the specified backoff limit")
    of["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "AWS_ENDPOINT_URL_S3", "value": s3.endpoint})
    install(api, of=of)
    assert "birds.zip: no such object" in plugin("why", env=keys(s3)).stdout


def test_a_removed_run_without_credentials(api: Api, plugin: Plugin) -> None:
    installed(api, "http://127.0.0.1:1")
    told = plugin("why", env={"AWS_EC2_METADATA_DISABLED": "true"})
    assert told.returncode == 0
    assert "its Job was removed" in told.stdout
    by_hand = "aws s3 cp --endpoint-url http://127.0.0.1:1 s3://pets/runs/new/log.jsonl - | tail"
    assert f"there are no credentials for the bucket here; where there are: {by_hand}" in told.stdout


def test_a_removed_run_whose_bucket_is_away(api: Api, plugin: Plugin) -> None:
    installed(api, "http://127.0.0.1:1")
    began = time.monotonic()
    told = plugin("why", env={"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    assert told.returncode == 0
    assert "s3://pets/runs/new/log.jsonl cannot be read from here" in told.stdout
    assert time.monotonic() - began < 20


def test_a_removed_run_where_boto3_is_not_installed(api: Api, start_plugin: Starter, tmp_path: Path) -> None:
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing/boto3.py").write_text("raise ImportError")
    installed(api)
    path = f"{tmp_path}/missing:{REPOSITORY}/k8s"
    stdout, _ = start_plugin("why", env={"PYTHONPATH": path}).communicate(timeout=60)
    assert b"boto3 is not installed here" in stdout


@pytest.mark.parametrize("how", ["refused", "none", "broken"])
def test_a_removed_run_whose_release_cannot_be_read(api: Api, plugin: Plugin, how: str) -> None:
    installed(api)
    for name in ("sh.helm.release.v1.pets.v9", "sh.helm.release.v1.pets.v10"):
        if how == "broken":
            api.put("secrets", (api.find("secrets", name) or {}) | {"data": {"release": "bm90aGluZw=="}})
        elif how == "none":
            api.remove("secrets", name)
    if how == "refused":
        api.denied.add(("list", "secrets"))
    told = plugin("why", "pets").stdout
    assert "its Job was removed" in told
    assert "`helm get manifest -n default pets` has CATSDOGS_OUTPUT" in told
    assert ("what helm has installed: secrets is forbidden" in told) == (how == "refused")


def test_a_schedule_that_has_not_begun(api: Api, plugin: Plugin) -> None:
    api.put("cronjobs", {"metadata": {"name": "pets", "labels": LABELS}, "spec": {"schedule": "@daily"}})
    api.put("serviceaccounts", {"metadata": {"name": "pets", "labels": LABELS}})
    assert "there is no run yet: CronJob pets starts them at '@daily'" in plugin("why").stdout


def test_what_is_not_of_the_chart_is_no_release(api: Api, plugin: Plugin) -> None:
    labels = {"app.kubernetes.io/instance": "pets", "helm.sh/chart": "postgresql-1.0.0"}
    api.put("persistentvolumeclaims", claim() | {"metadata": {"name": CLAIM, "labels": labels}})
    assert plugin("why", "pets").returncode == 65
