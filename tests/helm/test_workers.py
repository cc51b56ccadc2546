"""Several workers: an Indexed Job, names for its pods, a place for each, and the way between them."""

import itertools
import json

import pytest
import yaml

from tests.helm.chart import CHART, FILES, Helm, environment, pods
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


CHOICES = list(itertools.product(["minimal", "cpu", "cron"], [1, 2], [False, True], [False, True]))


@pytest.mark.parametrize(
    ("name", "workers", "enabled", "anybody"), [*CHOICES, *((name, 2, False, False) for name in FILES)]
)
def test_none_but_workers_may_connect(helm4: Helm, name: str, workers: int, enabled: bool, anybody: bool) -> None:
    """Unless a value says so, and whatever the other values are."""
    policy = f"--set-json=networkPolicy={json.dumps({'enabled': enabled, 'allowAnyIngress': anybody})}"
    more = f"--set=workers={workers},volume.accessMode=ReadWriteMany"
    rendered = helm4.template(f"--values={FILES[name]}", more, policy)
    policies = rendered.all("NetworkPolicy")
    limited = (enabled or workers > 1) and not anybody
    if not enabled and not limited:
        assert policies == []
        return
    [made] = policies
    spec = made["spec"]
    assert ("Ingress" in spec["policyTypes"], "Egress" in spec["policyTypes"]) == (limited, enabled)
    assert ("egress" in spec) == enabled
    own = {"podSelector": {"matchLabels": labels(name)}}
    assert spec["podSelector"] == own["podSelector"]
    if limited and workers > 1:
        [rule] = spec["ingress"]
        assert rule["from"] == [own]
    else:
        assert "ingress" not in spec
    # It selects the run's pods, and of another release none.
    for pod in pods(rendered.manifests):
        assert own["podSelector"]["matchLabels"].items() <= pod.metadata["labels"].items()


def labels(name: str) -> dict[str, str]:
    values = yaml.safe_load(FILES[name].read_text())
    return {
        "app.kubernetes.io/name": values.get("nameOverride") or "catsdogs-train",
        "app.kubernetes.io/instance": "pets",
    }


@pytest.mark.parametrize("label", ["app.kubernetes.io/name", "app.kubernetes.io/instance"])
def test_pods_cannot_leave_the_network_policy(helm4: Helm, label: str) -> None:
    process = helm4(
        "template", "pets", CHART, "--set=bucket=pets,workers=2", f"--set-json=podLabels={json.dumps({label: 'x'})}"
    )
    assert process.returncode != 0
    assert f"podLabels: {label} is the chart's own label" in process.stderr


@pytest.mark.parametrize(("settings", "warned"), [("workers=2", False), ("workers=1", False), ("workers=2,ANY", True)])
def test_open_ports_are_warned_about(helm4: Helm, settings: str, warned: bool) -> None:
    told = settings.replace("ANY", "networkPolicy.allowAnyIngress=true")
    process = helm4("install", "pets", CHART, "--dry-run=client", f"--set=bucket=pets,{told}")
    assert process.returncode == 0, process.stderr
    assert ("WARNING: networkPolicy.allowAnyIngress" in process.stdout) == warned
