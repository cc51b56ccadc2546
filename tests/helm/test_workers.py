"""Several workers: an Indexed Job, names for its pods, a place for each, and the way between them."""

import json

import pytest

from tests.helm.chart import FILES, Helm, environment
from tests.helm.relations import problems


def test_one_worker_needs_nothing_of_several(helm4: Helm) -> None:
    alone = helm4.of()
    assert helm4.of("workers=1", 'workerTimeout="7m"', 'heartbeatTimeout="7m"').text == alone.text
    assert alone.all("Service") == []
    assert alone.job["spec"].keys() == {"backoffLimit", "podFailurePolicy", "template"}
    # As before there were workers, and before the log was mixed: an upgrade of the chart continues the same run.
    assert helm4.of('image.tag="0.1.0"', 'logFormat="text"').job_name == "pets-catsdogs-train-9f82e6a450"


def test_several_workers_find_each_other_by_name(helm4: Helm) -> None:
    rendered = helm4.template(f"--values={FILES['workers']}")
    job = rendered.job["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    # Failures of all workers count together.
    assert job["backoffLimit"] == 6
    assert job["podFailurePolicy"] == helm4.of().job["spec"]["podFailurePolicy"]
    service = rendered.one("Service")["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert {port["port"] for port in service["ports"]} == {2222, 2223}
    pod = job["template"]["spec"]
    told = environment(pod)
    expected = {
        "CATSDOGS_WORKERS": "2",
        "CATSDOGS_WORKER_INDEX": {
            "fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}
        },
        "JOB_NAME": {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/job-name']"}},
        "CATSDOGS_WORKER_ADDRESS": "$(JOB_NAME)-{index}.pets-catsdogs-train:2222",
        "CATSDOGS_WORKER_KEY_FILE": "/etc/catsdogs/worker-key/key",
        "CATSDOGS_WORKER_TIMEOUT": "10m",
        "CATSDOGS_HEARTBEAT_TIMEOUT": "30",
    }
    assert expected.items() <= told.items()
    # Kubernetes puts in only what stands before.
    assert list(told).index("JOB_NAME") < list(told).index("CATSDOGS_WORKER_ADDRESS")
    [spread] = pod["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    own = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]
    asked = helm4.of("workers=2", f"topologySpreadConstraints={json.dumps(own)}").job
    assert asked["spec"]["template"]["spec"]["topologySpreadConstraints"] == own
    # The test pod is one process.
    assert not {"CATSDOGS_WORKERS", "JOB_NAME"} & environment(rendered.one("Pod")["spec"]).keys()


@pytest.mark.parametrize("schedule", ["", "@daily"])
def test_names_leave_room_for_the_index(helm4: Helm, schedule: str) -> None:
    rendered = helm4.of("workers=1000", f'cronJob.schedule="{schedule}"', release="long-" * 10 + "is")
    assert problems(rendered.manifests, set()) == []


@pytest.mark.parametrize(
    ("settings", "kind", "claims"),
    [
        ([], "ephemeral", 0),
        (['volume.accessMode="ReadWriteMany"'], "persistentVolumeClaim", 1),
        (['volume={"accessMode": "ReadWriteMany", "existingClaim": "mine"}'], "persistentVolumeClaim", 0),
        (['volume.type="emptyDir"'], "emptyDir", 0),
    ],
)
def test_workers_share_only_what_all_can_mount(helm4: Helm, settings: list[str], kind: str, claims: int) -> None:
    rendered = helm4.of("workers=2", *settings)
    pod = rendered.job["spec"]["template"]["spec"]
    [data] = [volume for volume in pod["volumes"] if volume["name"] == "data"]
    assert kind in data
    assert len(rendered.all("PersistentVolumeClaim")) == claims
    # So that another number of workers goes on from there.
    assert environment(pod)["CATSDOGS_CHECKPOINT_TO"] == "bucket"


@pytest.mark.parametrize(("gpus", "ports"), [(0, [2222, 2223]), (1, None)], ids=["cpu", "nccl takes any port"])
def test_the_network_policy_lets_workers_talk(helm4: Helm, gpus: int, ports: list[int] | None) -> None:
    rendered = helm4.of("workers=2", "networkPolicy.enabled=true", f"gpu.count={gpus}")
    policy = rendered.one("NetworkPolicy")["spec"]
    peers = [{"podSelector": policy["podSelector"]}]
    rule = {} if ports is None else {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}
    assert policy["ingress"] == [{"from": peers, **rule}]
    assert policy["egress"][0] == {"to": peers, **rule}
    alone = helm4.of("networkPolicy.enabled=true", f"gpu.count={gpus}").one("NetworkPolicy")["spec"]
    assert policy["egress"][1:] == alone["egress"]
