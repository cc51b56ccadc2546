"""The commands of both READMEs, as they are written there, but for what stands for the reader's own."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.cluster.releases import SECRET, Namespace, Release, until
from tests.conftest import REPOSITORY
from tests.helm.chart import CHART
from tests.published import check_manifest

pytestmark = pytest.mark.timeout(3600)

NAME = "catsdogs-train"


def blocks(readme: Path) -> list[str]:
    """Of commands for a cluster, in their order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language == "sh" and block.startswith(("helm ", "kubectl "))]


class Reader:
    """Somebody in a shell in the repository's folder, whose current context leads to the namespace."""

    def __init__(self, namespace: Namespace, folder: Path):
        self._namespace = namespace
        # A reader has a GPU, an hour, and an image of their own; and the chart's own log format.
        small = namespace.small()
        del small["logFormat"]
        self._values = folder / "values.json"
        self._values.write_text(json.dumps(small))
        config = yaml.safe_load(namespace.cluster.kubeconfig.read_text())
        for entry in config["contexts"]:
            entry["context"]["namespace"] = namespace.name
        (folder / "kubeconfig").write_text(yaml.safe_dump(config))
        for name, program in {"helm": namespace.helm.program, "kubectl": namespace.cluster.kubectl}.items():
            (folder / name).symlink_to(program)
        self._environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
        }

    def runs(self, command: str, **own: str) -> str:
        """Standard output. Each of `own` is put in the place of what the README has for it, which must be there."""
        for written, meant in own.items():
            assert written in command, f"{written} is not in the README's {command}"
            command = command.replace(written, meant)
        command = re.sub(r"^helm install .*?(?<!\\)$", rf"\g<0> --values {self._values}", command, flags=re.M | re.S)
        process = subprocess.run(
            ["bash", "-euc", command],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert process.returncode == 0, f"{command}\n{process.stderr}"
        return process.stdout


def test_chart_readme(namespace: Namespace, tmp_path: Path) -> None:
    namespace.kubectl("delete", "secret", SECRET)
    reader, release = Reader(namespace, tmp_path), Release(namespace, NAME)
    _with_a_role, with_keys, test, follow, text, _several, change, repeat, resume, remove = blocks(CHART / "README.md")
    keys, bucket = namespace.storage.keys(), namespace.bucket
    told = reader.runs(
        with_keys,
        **{
            "AWS_ACCESS_KEY_ID=ACCESS_KEY": f"AWS_ACCESS_KEY_ID={keys['AWS_ACCESS_KEY_ID']}",
            "AWS_SECRET_ACCESS_KEY=SECRET_KEY": f"AWS_SECRET_ACCESS_KEY={keys['AWS_SECRET_ACCESS_KEY']}",
            "bucket=pets": f"bucket={bucket}",
            "https://s3.example.com": namespace.storage.relay.endpoint,
        },
    )
    [printed] = [line.strip() for line in told.splitlines() if "kubectl logs" in line]
    assert printed.replace(f" -n {namespace.name}", "") == follow.strip().replace("JOB", release.jobs[0])
    # kubectl waits until there is a pod, whatever the option's name says, and not until its container has started.
    until(lambda: release.run.pods[-1]["status"]["phase"] != "Pending", "the pod starts", 60, release.run.story)
    assert "published" in reader.runs(printed).splitlines()[-1]
    lines = reader.runs(text, JOB=release.jobs[0]).splitlines()
    assert any("published" in line for line in lines)
    assert not any(line.startswith("{") for line in lines)
    check_manifest(release.run.succeed())
    assert f"s3://{bucket}/runs/{release.jobs[0]}/" in told
    assert "Succeeded" in reader.runs(test)

    for number, command in enumerate((change, repeat), start=2):
        reader.runs(command)
        assert len(release.jobs) == number
        check_manifest(release.run.succeed())
    assert len(release.run.published["history.csv"].splitlines()) == 51

    last = release.jobs[-1]
    reader.runs(resume, JOB=last)
    assert release.jobs[-1] == last
    release.run.succeed()
    reader.runs(remove)
    assert release.items("jobs") + release.items("persistentvolumeclaims") == []


def test_project_readme(namespace: Namespace, tmp_path: Path) -> None:
    """The one line of it. Its run finds no GPU that TensorFlow can use, and says so."""
    [install] = blocks(REPOSITORY / "README.md")
    reader, release = Reader(namespace, tmp_path), Release(namespace, NAME)
    more = f"--set gpu.count=1,storage.endpoint={namespace.storage.relay.endpoint},credentials.existingSecret={SECRET}"
    told = reader.runs(
        f"{install.strip()} {more} --set job.backoffLimit=0\n",
        **{"bucket=pets": f"bucket={namespace.bucket}", " --set image.repository=REGISTRY/catsdogs-train": ""},
    )
    assert f"Job {release.jobs[0]} trains baseline on 1 × nvidia.com/gpu." in told
    assert release.run.fail() == "BackoffLimitExceeded"
    assert "no usable GPU" in release.run.last_words()
